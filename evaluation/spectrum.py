"""How much of images' energy lies at which spatial frequency: what blur takes away, and checkerboards add.

    images (N, H, W, C) uint8 -> |FFT|^2, mean over images and channels -> radial bands, or one sum

Grey levels squared throughout, scaled so that all energy of an image adds up to its variance. Knows numpy alone.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

HIGH = 0.25
"""Cycles per pixel above which a frequency counts as high: details of less than four pixels."""

BATCH_VALUES = 2**20
"""Grey levels transformed at once."""

Array = npt.NDArray[np.float64]
Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Spectrum:
    """frequencies: (B,) cycles per pixel, the middles of rings; power: (B,) mean power of the frequencies in each.

    Independent noise of variance v has a power of v at every frequency, whatever the size of the images.
    """

    frequencies: Array
    power: Array


def power_spectrum(images: Images) -> Spectrum:
    """Mean power by radial frequency of images (N, H, W, C), up to half a cycle per pixel; B = min(H, W) // 2.

    Raises: ValueError, if the images are of another type or shape, there are none, or a side has a single pixel.
    """
    power = _mean_power(images)
    side = min(power.shape)
    ring = np.rint(_radii(power.shape) * side).astype(np.int64).ravel()
    sums, members = np.bincount(ring, power.ravel()), np.bincount(ring)
    rings = np.arange(1, side // 2 + 1)
    return Spectrum(rings / side, sums[rings] / members[rings])


def high_frequency_energy(images: Images) -> float:
    """The part of the variance of an image (N, H, W, C) that lies above HIGH cycles per pixel, mean over the images.

    Drawn images' by real ones' is below 1 where the drawn ones are blurred. Raises: ValueError, as power_spectrum.
    """
    power = _mean_power(images)
    return float(power[_radii(power.shape) > HIGH].sum() / power.size)


def _mean_power(images: Images) -> Array:
    """Mean of |FFT|^2 / (H W) over images and channels: (H, W); its mean is the mean variance of an image's channel."""
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size or min(images.shape[1:3]) < 2:
        raise ValueError(
            f"images: got {images.dtype} {images.shape}, expected uint8 (N, H, W, C) with N > 0 and sides of 2 or more"
        )
    count, height, width, channels = images.shape
    power = np.zeros((height, width))
    size = max(1, BATCH_VALUES // (height * width * channels))
    for start in range(0, count, size):
        levels = images[start : start + size].astype(np.float64)
        levels -= levels.mean((1, 2), keepdims=True)
        spectra = np.fft.fft2(levels, axes=(1, 2))
        power += (np.square(spectra.real) + np.square(spectra.imag)).sum((0, 3))
    power /= count * channels * height * width
    return power


def _radii(shape: tuple[int, ...]) -> Array:
    """Cycles per pixel of each entry of a transform (H, W)."""
    height, width = shape
    radii: Array = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    return radii
