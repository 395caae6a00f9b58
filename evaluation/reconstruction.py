"""How near reconstructions come to the images that they are of."""

import math

import numpy as np
import numpy.typing as npt


def psnr_db(reference: npt.NDArray[np.uint8], images: npt.NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two uint8 arrays of one shape: 10 log10(255^2 / mean squared error).

    The error is taken over all values of all images at once. Infinite where nothing differs.
    Raises: ValueError, if the arrays have other types, different shapes or no values.
    """
    if reference.dtype != np.uint8 or images.dtype != np.uint8:
        raise ValueError(f"images: got {reference.dtype} and {images.dtype}, expected uint8")
    if reference.shape != images.shape or not images.size:
        raise ValueError(f"images: cannot compare shape {reference.shape} with {images.shape}")
    mse = float(np.square(reference.astype(np.float32) - images).mean(dtype=np.float64))
    return 10 * math.log10(255**2 / mse) if mse else math.inf
