"""A set of images, in memory or on disk, split into a training and a held-out part.

    digits | openmoji | folder | parquet -> sources -> ImageSet -> split -> batches

Images are (N, H, W, C) uint8; how they were decoded is the business of `sources`, how they lie on disk that of `store`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.errors import DataError

PIECE_IMAGES = 256
"""Images read at once where all of a set are gone through."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageSet:
    """Images and their labels; the parts of a set that lies on disk are lists of rows of the one file.

    store: (M, H, W, C) uint8, an array or a read-only map of a file. labels: (N,) int64, or None where the source has none.
    rows: (N,) int64, which images of `store` are in the set, in order; None: all.
    """

    store: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64] | None
    label_names: list[str]
    rows: Rows | None = None

    def __len__(self) -> int:
        return len(self.store if self.rows is None else self.rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of each image."""
        height, width, channels = self.store.shape[1:]
        return height, width, channels

    @property
    def images(self) -> npt.NDArray[np.uint8]:
        """All images (N, H, W, C) uint8; part of a set on disk is read into memory, so `take` what is needed first."""
        return self._read(slice(None))

    def take(self, rows: Rows) -> "ImageSet":
        """The images at `rows`, in that order; a set on disk is not copied."""
        labels = None if self.labels is None else self.labels[rows]
        if isinstance(self.store, np.memmap):
            return ImageSet(self.store, labels, self.label_names, rows if self.rows is None else self.rows[rows])
        return ImageSet(self._read(rows), labels, self.label_names)

    def split(self, held_out: float, seed: int) -> tuple["ImageSet", "ImageSet"]:
        """Training and held-out part: a shuffle that `seed` decides, then a cut.

        Raises: DataError, if one of the parts would be empty.
        """
        order = np.random.default_rng(seed).permutation(len(self))
        cut = len(self) - round(held_out * len(self))
        if not 0 < cut < len(self):
            raise DataError(f"data: {len(self)} images cannot be split with a share of {held_out} held out")
        return self.take(order[:cut]), self.take(order[cut:])

    def binarised(self, seed: int) -> "ImageSet":
        """The set in black and white, in memory: each value is white with probability grey / 255, drawn once by `seed`.

        Source: Salakhutdinov and Murray 2008, On the quantitative analysis of deep belief networks.
        """
        draw = np.random.default_rng(seed)
        white = [draw.integers(255, size=piece.shape, dtype=np.uint8) < piece for piece in self._pieces()]
        return ImageSet(np.concatenate(white) * np.uint8(255), self.labels, self.label_names)

    def pixels(self, rows: Rows | slice = slice(None)) -> Tensor:
        """The images at `rows` as networks see them: (N, C, H, W) float32 in [-1, 1]."""
        images = np.require(self._read(rows), requirements="W")  # torch takes no read-only arrays
        return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)

    def classes(self, rows: Rows | slice = slice(None)) -> Tensor | None:
        """The labels at `rows`: (N,) int64."""
        return None if self.labels is None else torch.from_numpy(self.labels[rows])

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Rows]:
        """Row numbers of batch after batch, without end: each epoch is a shuffle decided by (seed, epoch).

        A batch may span two epochs, so that sets smaller than a batch and odd ends need no special case.
        start: images that were shown before, where a training is continued.
        """
        epoch, shown = divmod(start, len(self))
        waiting = self._shuffled(seed, epoch)[shown:]
        while True:
            while len(waiting) < size:
                epoch += 1
                waiting = np.append(waiting, self._shuffled(seed, epoch))
            yield waiting[:size]
            waiting = waiting[size:]

    def digest(self) -> str:
        """SHA-256 of the pixels and then the labels, in hex: by what a run knows its images again."""
        sha = hashlib.sha256()
        for piece in self._pieces():
            sha.update(piece.tobytes())
        if self.labels is not None:
            sha.update(self.labels.tobytes())
        return sha.hexdigest()

    def _read(self, rows: Rows | slice) -> npt.NDArray[np.uint8]:
        return self.store[rows if self.rows is None else self.rows[rows]]

    def _pieces(self) -> Iterator[npt.NDArray[np.uint8]]:
        for start in range(0, len(self), PIECE_IMAGES):
            yield self._read(slice(start, start + PIECE_IMAGES))

    def _shuffled(self, seed: int, epoch: int) -> Rows:
        return np.random.default_rng([seed, epoch]).permutation(len(self))


def pixels_to_bytes(images: Tensor) -> npt.NDArray[np.uint8]:
    """images: (N, C, H, W) float32 around [-1, 1]. Returns (N, H, W, C) uint8, rounded half to even."""
    scaled = images.mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)
    array: npt.NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return array
