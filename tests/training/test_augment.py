"""Images are changed by the drawn parameters, by no other chance, and smoothly enough for gradient penalties."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from training.augment import Augmentation, mirror

SIZE = 16
PARAMETERS = [field.name for field in fields(Augmentation)]


def _none(count: int) -> Augmentation:
    """Parameters that change nothing: the hole lies outside."""
    one = torch.ones(count)
    return Augmentation(one * 0, one, one, torch.zeros(count, 2, dtype=torch.int64), torch.full((count, 2), -10 * SIZE))


def _images(count: int = 3, channels: int = 3, size: int = SIZE) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _drawn(count: int = 3, size: int = SIZE, seed: int = 0) -> Augmentation:
    return Augmentation.draw(count, size, torch.Generator().manual_seed(seed))


def test_the_images_that_are_told_are_mirrored() -> None:
    images = _images(2)
    mirrored = mirror(images, torch.tensor([False, True]))
    assert mirrored[0].equal(images[0])
    for column in range(SIZE):
        assert mirrored[1, :, :, column].equal(images[1, :, :, SIZE - 1 - column])


def test_parameters_of_no_change_leave_images_as_they_are() -> None:
    assert _none(3)(_images()).equal(_images())


def test_brightness_is_added() -> None:
    torch.testing.assert_close(
        replace(_none(3), brightness=torch.tensor([0.5, 0.0, -0.5]))(_images())[2], _images()[2] - 0.5
    )


def test_without_saturation_colours_are_grey() -> None:
    images = replace(_none(3), saturation=torch.zeros(3))(_images())
    for channel in range(3):
        torch.testing.assert_close(images[:, channel], _images().mean(1))


def test_contrast_scales_the_distance_from_the_mean_of_an_image() -> None:
    images = replace(_none(3), contrast=torch.tensor([0.5, 1.0, 1.5]))(_images())
    torch.testing.assert_close(images.mean((1, 2, 3)), _images().mean((1, 2, 3)))
    factors = images.std((1, 2, 3)) / _images().std((1, 2, 3))
    torch.testing.assert_close(factors, torch.tensor([0.5, 1.0, 1.5]))


@pytest.mark.parametrize(("down", "right"), [(2, 0), (0, -1), (1, 2), (-2, -2)])
def test_images_are_moved_by_whole_pixels_and_zeros_move_in(down: int, right: int) -> None:
    image = _images(1)
    moved = replace(_none(1), shift=torch.tensor([[down, right]]))(image)[0]
    for row in range(SIZE):
        for column in range(SIZE):
            y, x = row - down, column - right
            was = image[0, :, y, x] if 0 <= y < SIZE and 0 <= x < SIZE else torch.zeros(3)
            assert moved[:, row, column].equal(was)


@pytest.mark.parametrize(("top", "left"), [(3, 5), (-4, 0), (12, -2)])
def test_a_square_of_half_the_size_is_cut_out(top: int, left: int) -> None:
    expected = _images(1)
    expected[:, :, max(top, 0) : top + SIZE // 2, max(left, 0) : left + SIZE // 2] = 0
    assert replace(_none(1), hole=torch.tensor([[top, left]]))(_images(1)).equal(expected)


def test_parameters_are_spread_over_the_ranges_of_the_paper() -> None:
    drawn = _drawn(20_000, 32)
    for parameter, low, high in ((drawn.brightness, -0.5, 0.5), (drawn.saturation, 0, 2), (drawn.contrast, 0.5, 1.5)):
        assert low <= parameter.min() < low + 0.01
        assert high - 0.01 < parameter.max() <= high
        assert abs(parameter.mean() - (low + high) / 2) < 0.02
    assert sorted(set(drawn.shift.flatten().tolist())) == list(range(-4, 5))
    assert sorted(set(drawn.hole.flatten().tolist())) == list(range(-8, 25))


def test_parameters_are_decided_by_the_generator_alone() -> None:
    torch.manual_seed(1)
    first = _drawn()
    torch.manual_seed(2)
    assert _drawn()(_images()).equal(first(_images()))
    assert not _drawn(seed=1)(_images()).equal(first(_images()))


@pytest.mark.parametrize("rows", [slice(1, 3), torch.tensor([2, 0])])
def test_parameters_of_some_rows_change_those_images_as_all_would(rows: slice | Tensor) -> None:
    part = _drawn()[rows]
    assert len(part) == 2
    assert part(_images()[rows]).equal(_drawn()(_images())[rows])


@pytest.mark.parametrize("size", [14, 28])
def test_sizes_whose_eighth_is_no_whole_number_are_rounded(size: int) -> None:
    drawn = _drawn(5_000, size)
    assert drawn.shift.max() == int(size / 8 + 0.5)
    assert drawn(_images(5_000, 1, size)).shape == (5_000, 1, size, size)


def test_gradients_can_be_taken_twice() -> None:
    images = _images(2, 3, 8).double().requires_grad_()
    drawn = _drawn(2, 8)
    assert torch.autograd.gradcheck(lambda each: drawn(each).pow(3), images)
    assert torch.autograd.gradgradcheck(lambda each: drawn(each).pow(3), images)
