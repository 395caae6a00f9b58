"""How near reconstructions come to the images that they are of.

    reference, images (N, H, W, C) uint8 -> psnr_db, by grey levels;   ssim, by structure

Knows arrays alone.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d

WINDOW = 11
"""Pixels a side of the window of ssim; smaller images take the largest odd window that fits."""

SIGMA = 1.5
"""Standard deviation of that window's Gaussian weights, in pixels."""

STABILISERS = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""(K1 L)^2 and (K2 L)^2: what keeps the ratios of ssim finite where images are dark or even."""

BATCH_VALUES = 2**18
"""Grey levels compared at once: what ssim makes of them stays in the caches."""

Array = npt.NDArray[np.float64]
Images = npt.NDArray[np.uint8]


def psnr_db(reference: Images, images: Images) -> float:
    """Peak signal-to-noise ratio of two uint8 arrays of one shape: 10 log10(255^2 / mean squared error).

    The error is taken over all values of all images at once. Infinite where nothing differs.
    Raises: ValueError, if the arrays have other types, different shapes or no values.
    """
    _check(reference, images)
    mse = float(np.square(reference.astype(np.float32) - images).mean(dtype=np.float64))
    return 10 * math.log10(255**2 / mse) if mse else math.inf


def ssim(reference: Images, images: Images) -> float:
    """Structural similarity of two arrays (N, H, W, C), mean over images, channels and places; 1 where they are equal.

    Only windows that lie inside the image count.
    Raises: ValueError, if the arrays have other types, different shapes, no values or not four axes.
    Source: Wang et al. 2004, eq. 13, with the window and constants of section III-C.
    """
    _check(reference, images)
    if images.ndim != 4:
        raise ValueError(f"images: got arrays of shape {images.shape}, expected (N, H, W, C)")
    height, width, channels = images.shape[1:]
    window = _window(min(WINDOW, height, width))
    size = max(1, BATCH_VALUES // (height * width * channels))
    total = 0.0
    for start in range(0, len(images), size):
        x, y = (
            part[start : start + size].transpose(0, 3, 1, 2).astype(np.float64, order="C")
            for part in (reference, images)
        )
        mean_x, mean_y, squares_x, squares_y, products = (
            _means(values, window) for values in (x, y, x * x, y * y, x * y)
        )
        means = mean_x * mean_y
        lengths = mean_x * mean_x + mean_y * mean_y
        c1, c2 = STABILISERS
        similarity = (2 * means + c1) * (2 * (products - means) + c2)
        similarity /= (lengths + c1) * (squares_x + squares_y - lengths + c2)
        total += float(similarity.mean((1, 2, 3)).sum())
    return total / len(images)


def _check(reference: npt.NDArray[np.generic], images: npt.NDArray[np.generic]) -> None:
    """Raises: ValueError, unless both are uint8 and of one shape, with values."""
    if reference.dtype != np.uint8 or images.dtype != np.uint8:
        raise ValueError(f"images: got {reference.dtype} and {images.dtype}, expected uint8")
    if reference.shape != images.shape or not images.size:
        raise ValueError(f"images: cannot compare shape {reference.shape} with {images.shape}")


def _window(fits: int) -> Array:
    """Gaussian weights of sum 1, of the largest odd number of pixels that fits."""
    side = fits - 1 + fits % 2
    weights: Array = np.exp(-0.5 * np.square((np.arange(side) - side // 2) / SIGMA))
    weights /= weights.sum()
    return weights


def _means(values: Array, window: Array) -> Array:
    """Weighted means of values (N, C, H, W) by windows inside the image: (N, C, H - side + 1, W - side + 1)."""
    margin = len(window) // 2
    for axis in (2, 3):
        inside = [slice(None)] * axis + [slice(margin, values.shape[axis] - margin)]
        values = correlate1d(values, window, axis)[tuple(inside)]
    return values
