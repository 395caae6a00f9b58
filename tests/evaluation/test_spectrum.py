"""Spectra of noise, waves and blurred images, against what theory says of them."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from evaluation import spectrum
from evaluation.spectrum import HIGH, high_frequency_energy, power_spectrum


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _wave(frequency: float, size: int = 32) -> np.ndarray:
    """Of one amplitude of 100 across, constant down."""
    levels = 128 + 100 * np.cos(2 * np.pi * frequency * np.arange(size))
    return np.tile(levels.round().astype(np.uint8), (size, 1))[None, :, :, None]


@pytest.mark.parametrize("shape", [(3, 8, 8, 1), (2, 9, 7, 3), (1, 16, 6, 1)])
def test_all_energy_adds_up_to_the_variance(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spectrum, "HIGH", 0)  # all but the mean
    images = _noise(*shape)
    assert high_frequency_energy(images) == pytest.approx(images.var((1, 2)).mean())


def test_white_noise_has_the_power_of_its_variance_in_every_band():
    images = _noise(400, 32, 32, 1)
    found = power_spectrum(images)
    np.testing.assert_allclose(found.frequencies, np.arange(1, 17) / 32)
    np.testing.assert_allclose(found.power, images.var(), rtol=0.15)
    assert found.power.dtype == np.float64


def test_white_noise_has_all_but_the_low_circle_of_its_energy_above_the_limit():
    images = _noise(100, 64, 64, 3)
    assert high_frequency_energy(images) / images.var() == pytest.approx(1 - math.pi * HIGH**2, abs=0.005)


def test_a_wave_has_its_energy_in_its_own_band():
    found = power_spectrum(_wave(0.25))
    assert found.frequencies[found.power.argmax()] == 0.25
    assert found.power.max() > 1e4 * np.delete(found.power, found.power.argmax()).max()


@pytest.mark.parametrize(("frequency", "energy"), [(6 / 32, 0), (12 / 32, 100**2 / 2)])
def test_only_waves_above_the_limit_count_as_high(frequency: float, energy: float):
    assert high_frequency_energy(_wave(frequency)) == pytest.approx(energy, abs=30)


def test_the_share_that_is_left_falls_with_the_blur():
    images = _noise(20, 32, 32, 3)
    real = high_frequency_energy(images)
    blurred = [gaussian_filter(images, (0, sigma, sigma, 0)) for sigma in (0.4, 0.7, 1.0)]
    shares = [high_frequency_energy(some) / real for some in blurred]
    assert 1 > shares[0] > shares[1] > shares[2] > 0


def test_a_checkerboard_adds_energy_at_the_highest_frequencies():
    images = np.full((1, 16, 16, 1), 100, np.uint8)
    images[0, ::2, ::2] += 20
    images[0, 1::2, 1::2] += 20
    assert high_frequency_energy(images) == pytest.approx(100)  # of +-10 grey levels


def test_batches_and_the_order_of_images_change_nothing(monkeypatch: pytest.MonkeyPatch):
    images = _noise(9, 12, 10, 3)
    whole = power_spectrum(images)
    monkeypatch.setattr(spectrum, "BATCH_VALUES", 12 * 10 * 3 * 2)
    np.testing.assert_allclose(power_spectrum(images[::-1]).power, whole.power)


@pytest.mark.parametrize("measure", [power_spectrum, high_frequency_energy])
@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((1, 8, 8, 1)), "float64"),
        (np.zeros((8, 8, 1), np.uint8), r"\(8, 8, 1\)"),
        (np.zeros((0, 8, 8, 1), np.uint8), "N > 0"),
        (np.zeros((1, 8, 1, 1), np.uint8), "sides of 2"),
    ],
)
def test_what_has_no_spectrum_is_refused(measure: object, images: np.ndarray, words: str):
    with pytest.raises(ValueError, match=words):
        measure(images)
