"""Signal-to-noise ratios worked out by hand, and structural similarity beside a slow oracle; both beside scikit-image."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import metrics

from evaluation import reconstruction
from evaluation.reconstruction import psnr_db, ssim


def _picture(*shape: int, seed: int = 0) -> np.ndarray:
    """Smooth blots with some noise."""
    levels = np.random.default_rng(seed).normal(0, 400, shape)
    return (gaussian_filter(levels, (0, 2, 2, 0)) + 128 + 0.02 * levels).clip(0, 255).astype(np.uint8)


def _slow_ssim(reference: np.ndarray, images: np.ndarray, side: int) -> float:
    """The definition, window by window."""
    offsets = np.arange(side) - side // 2
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    count, height, width, channels = images.shape
    for n, top, left, c in np.ndindex(count, height - side + 1, width - side + 1, channels):
        x, y = (a[n, top : top + side, left : left + side, c].astype(float) for a in (reference, images))
        mx, my = (weights * x).sum(), (weights * y).sum()
        vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
        shared = (weights * (x - mx) * (y - my)).sum()
        found.append((2 * mx * my + c1) * (2 * shared + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(found))


def test_an_error_of_one_grey_level_everywhere_is_48_db():
    reference = np.full((2, 4, 4, 1), 100, np.uint8)
    assert psnr_db(reference, reference - np.uint8(1)) == pytest.approx(48.1308, abs=1e-4)


def test_the_error_is_averaged_over_all_values_before_the_logarithm():
    reference, images = np.zeros((2, 1, 2, 1), np.uint8), np.zeros((2, 1, 2, 1), np.uint8)
    images[0, 0, 0, 0] = 255
    assert psnr_db(reference, images) == pytest.approx(10 * math.log10(4))
    assert psnr_db(images, reference) == psnr_db(reference, images)


def test_equal_images_are_infinitely_near():
    assert psnr_db(np.ones((1, 2, 2, 3), np.uint8), np.ones((1, 2, 2, 3), np.uint8)) == math.inf


@pytest.mark.parametrize(
    ("shape", "side"),
    [((2, 16, 13, 3), 11), ((1, 11, 11, 1), 11), ((2, 8, 8, 1), 7), ((1, 10, 32, 1), 9), ((1, 1, 5, 1), 1)],
)
def test_structural_similarity_is_what_its_definition_says(shape: tuple[int, ...], side: int):
    reference, images = _picture(*shape), _picture(*shape, seed=1)
    images = (reference // 2 + images // 2).astype(np.uint8)
    assert ssim(reference, images) == pytest.approx(_slow_ssim(reference, images, side), abs=1e-9)


@pytest.mark.parametrize("shape", [(3, 16, 13, 3), (2, 28, 28, 1)])
def test_both_measures_are_those_of_scikit_image(shape: tuple[int, ...]):
    reference, images = _picture(*shape), _picture(*shape, seed=1)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    pairs = zip(reference, images, strict=True)
    expected = [metrics.structural_similarity(one, other, channel_axis=2, **options) for one, other in pairs]
    assert ssim(reference, images) == pytest.approx(np.mean(expected), abs=1e-9)
    noise_db = metrics.peak_signal_noise_ratio(reference, images, data_range=255)
    assert psnr_db(reference, images) == pytest.approx(noise_db, abs=1e-9)


def test_equal_images_have_a_similarity_of_one_and_negatives_one_below_zero():
    images = _picture(3, 24, 24, 3)
    assert ssim(images, images) == pytest.approx(1, abs=1e-12)
    assert ssim(images, 255 - images) < 0


def test_even_images_differ_in_luminance_alone():
    dark, light = (np.full((1, 12, 12, 1), level, np.uint8) for level in (60, 120))
    expected = (2 * 60 * 120 + 2.55**2) / (60**2 + 120**2 + 2.55**2)
    assert ssim(dark, light) == pytest.approx(expected)


def test_similarity_is_symmetric_and_batches_change_nothing(monkeypatch: pytest.MonkeyPatch):
    reference, images = _picture(5, 16, 16, 3), _picture(5, 16, 16, 3, seed=1)
    whole = ssim(reference, images)
    monkeypatch.setattr(reconstruction, "BATCH_VALUES", 2 * 16 * 16 * 3)
    assert ssim(images, reference) == pytest.approx(whole)


def test_similarity_falls_with_noise_and_with_blur():
    reference = _picture(4, 32, 32, 1)
    noise = np.random.default_rng(2).normal(0, 1, reference.shape)
    noisy = [(reference + sd * noise).clip(0, 255).astype(np.uint8) for sd in (0, 5, 15, 40)]
    blurred = [gaussian_filter(reference, (0, sigma, sigma, 0)) for sigma in (0, 0.7, 1.5, 3)]
    for images in (noisy, blurred):
        found = [ssim(reference, some) for some in images]
        assert found == sorted(found, reverse=True)
        assert found[-1] < 0.8


@pytest.mark.parametrize("measure", [psnr_db, ssim])
@pytest.mark.parametrize(
    ("reference", "images"),
    [
        (np.zeros((1, 2, 2, 1), np.uint8), np.zeros((1, 2, 2, 1))),
        (np.zeros((1, 2, 2, 1), np.uint8), np.zeros((1, 2, 2, 3), np.uint8)),
        (np.zeros((0, 2, 2, 1), np.uint8), np.zeros((0, 2, 2, 1), np.uint8)),
    ],
)
def test_arrays_that_cannot_be_compared_are_refused(measure: object, reference: np.ndarray, images: np.ndarray):
    with pytest.raises(ValueError, match="images: "):
        measure(reference, images)


def test_structure_needs_images_and_not_rows():
    with pytest.raises(ValueError, match=r"\(4, 9\), expected \(N, H, W, C\)"):
        ssim(np.zeros((4, 9), np.uint8), np.zeros((4, 9), np.uint8))
