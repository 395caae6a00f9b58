"""Whether drawn pictures have the colours of real ones: which, and where in the picture.

    images (N, H, W, 3) uint8 -> joint histogram of red, green and blue -> total variation
                              -> 8x8 thumbnails -> sliced Wasserstein distance

Networks taught on labels look past a shift of hue that everybody sees. No weights, nothing to install.
"""

import numpy as np
import numpy.typing as npt
from scipy.stats import wasserstein_distance
from torch.nn import functional

from evaluation.features import by_batch

LEVELS = 8
"""Of each channel in the histogram: 512 colours."""

THUMBNAIL = 8
"""Height and width that pictures are averaged down to."""

DIRECTIONS = 256
"""That thumbnails are projected on."""

Images = npt.NDArray[np.uint8]


def colour_histogram(images: Images) -> npt.NDArray[np.float64]:
    """Shares of the pixels of images (N, H, W, 3) by colour: (LEVELS^3,). Raises: ValueError, if they are not RGB."""
    _check(images)
    counts = np.zeros(LEVELS**3, np.int64)
    for image in images:
        red, green, blue = (image // (256 // LEVELS)).reshape(-1, 3).T.astype(np.int64)
        counts += np.bincount((red * LEVELS + green) * LEVELS + blue, minlength=LEVELS**3)
    shares: npt.NDArray[np.float64] = counts / counts.sum()
    return shares


def total_variation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Half the sum of differences between shares: 0 where they agree, 1 where nothing is in both."""
    return float(np.abs(a - b).sum() / 2)


def thumbnail_rows(images: Images) -> npt.NDArray[np.float32]:
    """Images (N, H, W, 3) as averages over 8 by 8 areas, in [0, 1]: (N, 192). Raises: ValueError, if they are not RGB."""
    _check(images)
    size = (THUMBNAIL, THUMBNAIL)
    rows: npt.NDArray[np.float32] = by_batch(
        lambda pixels: functional.adaptive_avg_pool2d(pixels, size).flatten(1), images, 3
    )
    rows += 1
    rows /= 2
    return rows


def sliced_wasserstein(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Mean Wasserstein-1 distance of a (N, D) and b (M, D), projected on DIRECTIONS of unit length, always the same ones.

    Source: Bonneel et al. 2015; Karras et al. 2018 compare pictures so.
    """
    generator = np.random.Generator(np.random.Philox(key=0))
    directions = generator.standard_normal((a.shape[1], DIRECTIONS), np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    sides = zip((a @ directions).T, (b @ directions).T, strict=True)
    return float(np.mean([wasserstein_distance(*side) for side in sides]))


def _check(images: Images) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
        raise ValueError(f"images: got {images.dtype} {images.shape}, expected uint8 (N, H, W, 3) with N > 0")
