"""The shapes of the networks: presets, and what decides the shapes of all weights. Knows no network.

Architecture is of networks whose latent is a vector, MapArchitecture of those whose latent is a map.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pydantic import ConfigDict

from training.settings import Preset


class Size(NamedTuple):
    """width: channels at half the image's size; they double with each halving. blocks: residual blocks a level."""

    width: int
    blocks: int


PRESETS: dict[Preset, Size] = {"tiny": Size(16, 0), "small": Size(64, 0), "base": Size(64, 1), "large": Size(128, 2)}
"""Sizes of the networks; parameters, multiplications and rates of each are in docs/quality.md."""

MAX_WIDENING = 8
"""The widest layer has this many times the channels of the narrowest."""


@dataclass(frozen=True)
class Architecture:
    """Everything that decides the shapes of the networks' weights."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    size: int
    channels: int
    latent_dim: int
    width: int
    labels: int
    """Number of classes of a conditional model; 0 = unconditional."""
    blocks: int = 0
    normalised: bool = False
    """Whether batch norms follow the layers of G and D, but the first of D, and weights begin as in DCGAN."""

    @property
    def base(self) -> int:
        """Height and width of the smallest feature map, 4 to 7 pixels."""
        base = self.size
        while base > 7:
            base //= 2
        return base

    @property
    def widths(self) -> list[int]:
        """Channels from half the image's size down to `base`, e.g. [16, 32, 64] for 32 pixels at tiny."""
        levels = (self.size // self.base).bit_length() - 1
        return [self.width * min(2**level, MAX_WIDENING) for level in range(levels)]


MAP_WIDTHS: dict[Preset, int] = {"tiny": 8, "small": 16, "base": 32, "large": 64}
"""Channels at full size of networks whose latent is a map. An encoder's double with each halving, a
decoder's grow as map_networks.LEVELS says."""

MAP_HALVINGS = 3
"""Halvings from an image to its map, at most."""

MAP_ENTRIES = 192
"""Entries of a map, about: of fewer channels on larger maps."""

NUMBERS_AN_ENTRY = 16
"""Numbers of an image for each entry of its map, at least."""

CODE_DIM = 32
"""Entries of the code that a map is drawn from."""


@dataclass(frozen=True)
class MapArchitecture:
    """Everything that decides the shapes of the weights of networks whose latent is a map."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    size: int
    channels: int
    map_channels: int
    code_dim: int
    width: int
    labels: int
    """Number of classes of a conditional model; 0 = unconditional."""

    @classmethod
    def of(cls, preset: Preset, size: int, channels: int, labels: int) -> "MapArchitecture":
        """For images of `size` pixels."""
        numbers = channels * size**2
        cells = (size >> _halvings(size)) ** 2
        most = max(1, numbers // (NUMBERS_AN_ENTRY * cells))
        map_channels = min(most, max(channels, round(MAP_ENTRIES / cells)))
        return cls(size, channels, map_channels, CODE_DIM, MAP_WIDTHS[preset], labels)

    @property
    def halvings(self) -> int:
        """From an image to its map."""
        return _halvings(self.size)

    @property
    def map_size(self) -> int:
        """Height and width of a map."""
        return self.size >> self.halvings

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a map."""
        return self.map_channels, self.map_size, self.map_size

    @property
    def map_dim(self) -> int:
        """Entries of a map."""
        return self.map_channels * self.map_size**2


def _halvings(size: int) -> int:
    """As many as leave 4 pixels or more, at most MAP_HALVINGS."""
    halvings = 0
    while halvings < MAP_HALVINGS and size % 2 == 0 and size // 2 >= 4:
        size, halvings = size // 2, halvings + 1
    return halvings


def is_supported_size(size: int) -> bool:
    """Whether networks can be built for `size` pixels: 4 to 7 times a power of two, from 8 to 512."""
    return 8 <= size <= 512 and any(size == base << level for base in range(4, 8) for level in range(1, 8))
