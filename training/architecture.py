"""The shapes of the networks: presets, and what decides the shapes of all weights. Knows no network."""

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


def is_supported_size(size: int) -> bool:
    """Whether networks can be built for `size` pixels: 4 to 7 times a power of two, from 8 to 512."""
    return 8 <= size <= 512 and any(size == base << level for base in range(4, 8) for level in range(1, 8))
