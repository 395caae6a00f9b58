"""A set of images in memory, split into a training and a held-out part.

    digits | folder | parquet -> sources -> ImageSet -> split -> batches

Images are (N, H, W, C) uint8; how they were decoded is the business of `sources`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.errors import DataError


@dataclass(frozen=True)
class ImageSet:
    """images: (N, H, W, C) uint8. labels: (N,) int64, or None where the source has none."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64] | None
    label_names: list[str]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: npt.NDArray[np.int64]) -> "ImageSet":
        """The images at `rows`, in that order."""
        return ImageSet(self.images[rows], None if self.labels is None else self.labels[rows], self.label_names)

    def split(self, held_out: float, seed: int) -> tuple["ImageSet", "ImageSet"]:
        """Training and held-out part: a shuffle that `seed` decides, then a cut.

        Raises: DataError, if one of the parts would be empty.
        """
        order = np.random.default_rng(seed).permutation(len(self))
        cut = len(self) - round(held_out * len(self))
        if not 0 < cut < len(self):
            raise DataError(f"data: {len(self)} images cannot be split with a share of {held_out} held out")
        return self.take(order[:cut]), self.take(order[cut:])

    def pixels(self, rows: npt.NDArray[np.int64] | slice = slice(None)) -> Tensor:
        """The images at `rows` as networks see them: (N, C, H, W) float32 in [-1, 1]."""
        return torch.from_numpy(self.images[rows]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)

    def classes(self, rows: npt.NDArray[np.int64] | slice = slice(None)) -> Tensor | None:
        """The labels at `rows`: (N,) int64."""
        return None if self.labels is None else torch.from_numpy(self.labels[rows])

    def batches(self, size: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
        """Row numbers of batch after batch, without end: each epoch is a shuffle decided by (seed, epoch).

        A batch may span two epochs, so that sets smaller than a batch and odd ends need no special case.
        """
        waiting = np.empty(0, np.int64)
        epoch = 0
        while True:
            while len(waiting) < size:
                waiting = np.append(waiting, np.random.default_rng([seed, epoch]).permutation(len(self)))
                epoch += 1
            yield waiting[:size]
            waiting = waiting[size:]


def pixels_to_bytes(images: Tensor) -> npt.NDArray[np.uint8]:
    """images: (N, C, H, W) float32 around [-1, 1]. Returns (N, H, W, C) uint8, rounded half to even."""
    scaled = images.mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)
    array: npt.NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return array
