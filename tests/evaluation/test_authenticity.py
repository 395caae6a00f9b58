"""Copies that are made by hand, and a slow oracle of the nearest training image."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from evaluation.authenticity import TrainingImages

DRAW = np.random.default_rng(0)
SMOOTH = gaussian_filter(DRAW.normal(128, 300, (180, 20, 24, 3)), (0, 2, 2, 0)).clip(0, 255).astype(np.uint8)
TRAINING, OTHERS = SMOOTH[:120], SMOOTH[120:]


@pytest.fixture(scope="module")
def training() -> TrainingImages:
    return TrainingImages(TRAINING)


def _distance(image: np.ndarray, real: np.ndarray) -> float:
    middle = real[2:-2, 2:-2].astype(float)
    height, width = middle.shape[:2]
    squares = [
        np.square(side[y : y + height, x : x + width] - middle).mean()
        for side in (image, image[:, ::-1])
        for y in range(5)
        for x in range(5)
    ]
    return float(min(squares)) ** 0.5


def test_the_nearest_is_that_of_a_search_through_all_shifts(training: TrainingImages):
    found = training.nearest(OTHERS[:20])
    for image, row, distance, spacing in zip(OTHERS, found.rows, found.distances, found.spacings, strict=False):
        distances = [_distance(image, real) for real in TRAINING]
        assert row == np.argmin(distances)
        assert distance == pytest.approx(min(distances), rel=1e-4)
        others = [_distance(TRAINING[row], real) for number, real in enumerate(TRAINING) if number != row]
        assert spacing == pytest.approx(min(others), rel=1e-4)


def test_copies_are_found_however_they_were_shifted_and_mirrored(training: TrainingImages):
    rows = np.arange(25)
    shifted = np.stack([np.roll(TRAINING[n], (n // 5 - 2, n % 5 - 2), (0, 1)) for n in rows])
    for copies in (shifted, shifted[:, :, ::-1]):
        found = training.nearest(copies)
        np.testing.assert_array_equal(found.rows, rows)
        assert found.distances.max() < 0.1
        assert found.authenticity == 0


def test_noisy_copies_are_no_more_authentic_than_the_noise(training: TrainingImages):
    noise = DRAW.normal(0, 6, TRAINING.shape)
    noisy = (TRAINING + noise).clip(0, 255).astype(np.uint8)
    assert training.nearest(noisy).authenticity < 0.05


def test_images_of_the_same_kind_are_authentic_and_halves_of_copies_by_half(training: TrainingImages):
    of_others = training.nearest(OTHERS).authenticity
    half = np.concatenate([OTHERS, TRAINING[: len(OTHERS)]])
    assert of_others > 0.3
    assert training.nearest(half).authenticity == pytest.approx(of_others / 2, abs=0.01)


def test_an_image_of_the_training_is_not_its_own_neighbour(training: TrainingImages):
    assert training.nearest(TRAINING).spacings.min() > 1


@pytest.mark.parametrize("side", [1, 3, 8, 40])
def test_images_may_be_of_any_size(side: int):
    images = DRAW.integers(0, 256, (6, side, side, 3), np.uint8)
    found = TrainingImages(images).nearest(images[::-1])
    np.testing.assert_array_equal(found.rows, np.arange(6)[::-1])
    assert found.authenticity == 0


def test_one_training_image_has_no_other_to_compare_with():
    with pytest.raises(ValueError, match="got 1 training images, expected two or more"):
        TrainingImages(TRAINING[:1])
