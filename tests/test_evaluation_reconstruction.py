"""Peak signal-to-noise ratios that can be worked out by hand."""

import math

import numpy as np
import pytest

from evaluation.reconstruction import psnr_db


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
    ("reference", "images"),
    [
        (np.zeros((1, 2, 2, 1), np.uint8), np.zeros((1, 2, 2, 1))),
        (np.zeros((1, 2, 2, 1), np.uint8), np.zeros((1, 2, 2, 3), np.uint8)),
        (np.zeros((0, 2, 2, 1), np.uint8), np.zeros((0, 2, 2, 1), np.uint8)),
    ],
)
def test_arrays_that_cannot_be_compared_are_refused(reference: np.ndarray, images: np.ndarray):
    with pytest.raises(ValueError, match="images: "):
        psnr_db(reference, images)
