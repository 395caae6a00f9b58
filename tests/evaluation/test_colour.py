"""Colours of pictures that are made by hand, and shifts of them."""

import numpy as np
import pytest

from evaluation.colour import colour_histogram, sliced_wasserstein, thumbnail_rows, total_variation

PICTURES = (np.random.default_rng(0).beta(2, 5, (60, 8, 8, 3)) * 255).astype(np.uint8)


def _of(*colours: tuple[int, int, int]) -> np.ndarray:
    """A picture of 16x16 for each colour."""
    return np.array(colours, np.uint8)[:, None, None].repeat(16, 1).repeat(16, 2)


def test_a_histogram_counts_pixels_by_colour():
    shares = colour_histogram(_of((255, 255, 255), (255, 255, 255), (0, 0, 31), (0, 0, 32)))
    assert shares.shape == (512,)
    assert (shares[511], shares[0], shares[1]) == (0.5, 0.25, 0.25)


def test_total_variation_is_the_share_of_pixels_of_another_colour():
    red, three_of_four = _of((255, 0, 0)), _of(*[(255, 0, 0)] * 3, (0, 0, 255))
    assert total_variation(colour_histogram(red), colour_histogram(three_of_four)) == 0.25
    assert total_variation(colour_histogram(red), colour_histogram(_of((0, 0, 255)))) == 1
    assert total_variation(colour_histogram(PICTURES), colour_histogram(PICTURES[::-1])) == 0


def test_thumbnails_are_averages_in_zero_to_one():
    picture = np.zeros((1, 16, 16, 3), np.uint8)
    picture[0, :2, :2, 1] = 255
    rows = thumbnail_rows(picture).reshape(3, 8, 8)
    assert rows[1, 0, 0] == pytest.approx(1)
    assert rows.sum() == pytest.approx(1, abs=1e-4)


def test_a_shift_of_all_colours_is_seen_and_an_order_is_not():
    rows = thumbnail_rows(PICTURES)
    assert sliced_wasserstein(rows, rows[::-1]) == pytest.approx(0, abs=1e-7)
    shifts = [sliced_wasserstein(rows, rows + shift) for shift in (0.05, 0.1, 0.2)]
    assert shifts == sorted(shifts)
    assert shifts[2] == pytest.approx(4 * shifts[0], rel=1e-3)


def test_colours_that_change_places_are_seen_by_thumbnails_alone():
    flipped = PICTURES.copy()
    flipped[:, :4] //= 2
    others = flipped[:, ::-1]
    assert total_variation(colour_histogram(flipped), colour_histogram(others)) == 0
    assert sliced_wasserstein(thumbnail_rows(flipped), thumbnail_rows(others)) > 0.01


def test_sets_may_be_of_different_sizes():
    rows = thumbnail_rows(PICTURES)
    assert sliced_wasserstein(rows, np.concatenate([rows, rows])) == pytest.approx(0, abs=1e-6)


def test_grey_images_are_refused():
    for measure in (colour_histogram, thumbnail_rows):
        with pytest.raises(ValueError, match=r"expected uint8 \(N, H, W, 3\)"):
            measure(PICTURES[..., :1])
