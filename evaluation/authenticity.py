"""Whether a model copies its training images: how near drawn images come to them, by how near these come to each other.

    training images, images -> 8 bits at 32x32 -> nearest training image over shifts and mirroring -> authentic or not

Pixels alone, so that no network decides what a copy is. A first pass by averages over areas leaves CANDIDATES training images
for each image, a second compares their pixels; copies are at the front of the first whatever was done to them. Knows no model.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from torch.nn import functional

from evaluation.features import by_batch, thumbnails

REACH = 2
"""Pixels that an image may be shifted by, either way, both ways."""

AREAS = 7
"""Averages on a side that the first pass compares: of 4x4 pixels each."""

CANDIDATES = 32
"""Training images that the second pass compares an image with."""

MOST = 3_000
"""Images that are looked up at most: enough for a share to be right by two hundredths."""

MOST_TRAINING = 50_000
"""Training images that are looked through at most, the first ones."""

BLOCK_VALUES = 2**22
"""Distances held at once."""

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Nearest:
    """rows: (N,) of the nearest training images. distances: (N,) to them, root mean square of grey levels.
    spacings: (N,) of these to the nearest other training image.
    """

    rows: Rows
    distances: Floats
    spacings: Floats

    @property
    def authenticity(self) -> float:
        """The share of images that are farther from the nearest training image than another training image is from it.

        Source: Alaa et al. 2022, section 2.3, with pixels for the embedding.
        """
        return float((self.distances > self.spacings).mean())


class TrainingImages:
    """Looks up the training images nearest to others."""

    def __init__(self, images: Images) -> None:
        """images: (N, H, W, C) uint8. Raises: ValueError, if there are fewer than two."""
        if len(images) < 2:
            raise ValueError(f"images: got {len(images)} training images, expected two or more")
        self._small = thumbnails(images[:MOST_TRAINING], images.shape[-1])
        sides = self._small.shape[1:3]
        self._reach = [min(REACH, (side - 1) // 2) for side in sides]
        up, left = self._reach
        self._centres = self._small[:, up : sides[0] - up, left : sides[1] - left]

    def nearest(self, images: Images) -> Nearest:
        """Of the first MOST images (N, H, W, C) uint8, whose sides are the training images'."""
        rows, distances = self._search(thumbnails(images[:MOST], images.shape[-1]))
        centres, place = np.unique(rows, return_inverse=True)
        _, spacings = self._search(self._small[centres], centres)
        return Nearest(rows, distances, spacings[place])

    @cached_property
    def _areas(self) -> Floats:
        """(N, D) averages of the middles that shifted images are compared with."""
        return _averages(self._centres)

    def _search(self, small: Images, own: Rows | None = None) -> tuple[Rows, Floats]:
        """The nearest row of each image, and the distance; own: rows that are the images themselves, and do not count."""
        kept = min(CANDIDATES, len(self._small) - (own is not None))
        rows, distances = np.empty(len(small), np.int64), np.empty(len(small), np.float32)
        size = max(1, BLOCK_VALUES // len(self._small))
        for start in range(0, len(small), size):
            block = slice(start, start + size)
            coarse = self._coarse(small[block])
            if own is not None:
                coarse[np.arange(len(coarse)), own[block]] = np.inf
            candidates = coarse.argpartition(kept - 1, axis=1)[:, :kept] if kept < coarse.shape[1] else None
            for number, image in enumerate(small[block]):
                some = np.arange(len(self._small)) if candidates is None else candidates[number]
                squares = self._fine(image, some)
                best = int(squares.argmin())
                rows[start + number], distances[start + number] = some[best], np.sqrt(squares[best])
        return rows, distances

    def _coarse(self, small: Images) -> Floats:
        """(n, N): the least squared distance of averages, over every other shift, and mirrored."""
        lengths = np.square(self._areas).sum(1)
        least = np.full((len(small), len(self._small)), np.inf, np.float32)
        up, left = self._reach
        height, width = self._centres.shape[1:3]
        for mirrored in (small, small[:, :, ::-1]):
            for y in range(0, 2 * up + 1, 2):
                for x in range(0, 2 * left + 1, 2):
                    shifted = _averages(mirrored[:, y : y + height, x : x + width])
                    distances = shifted @ self._areas.T
                    distances *= -2
                    distances += lengths
                    distances += np.square(shifted).sum(1, keepdims=True)
                    np.minimum(least, distances, out=least)
        return least

    def _fine(self, image: Images, rows: Rows) -> Floats:
        """The least mean squared difference of an image (h, w, C), over all shifts and mirrored, to each of `rows`."""
        window = self._centres.shape[1:3]
        views = [sliding_window_view(each, window, (0, 1)) for each in (image, image[:, ::-1])]
        queries = np.concatenate([view.reshape(-1, *view.shape[2:]) for view in views]).transpose(0, 2, 3, 1)
        a = queries.reshape(len(queries), -1).astype(np.float32)
        b = self._centres[rows].reshape(len(rows), -1).astype(np.float32)
        products = np.square(a).sum(1)[:, None] - 2 * (a @ b.T) + np.square(b).sum(1)
        least: Floats = products.min(0).clip(0) / a.shape[1]
        return least


def _averages(images: Images) -> Floats:
    """(N, D): grey levels of AREAS by AREAS areas."""
    height, width = (min(side, AREAS) for side in images.shape[1:3])
    rows: Floats = by_batch(
        lambda pixels: functional.adaptive_avg_pool2d(pixels, (height, width)).flatten(1), images, images.shape[3]
    )
    return rows * 127.5
