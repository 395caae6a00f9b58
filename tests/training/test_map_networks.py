"""Networks whose latent is a map: shapes, and layers that are cheaper than they look."""

from typing import get_args

import pytest
import torch
from torch.nn import functional

from training.architecture import MapArchitecture
from training.map_networks import CodeDecoder, CodeEncoder, CodeGenerator, MapDecoder, MapEncoder, _Doubling
from training.settings import Preset

SIZES = [8, 16, 20, 28, 32, 48, 64, 128]


def _shape(size: int = 32, labels: int = 0) -> MapArchitecture:
    return MapArchitecture.of("tiny", size, 3, labels)


@pytest.mark.parametrize(
    ("size", "expected"), [(16, (3, 4, 4)), (28, (3, 7, 7)), (32, (12, 4, 4)), (64, (3, 8, 8)), (128, (3, 16, 16))]
)
def test_a_map_has_some_two_hundred_entries_on_small_pictures(size: int, expected: tuple[int, ...]) -> None:
    assert _shape(size).map_shape == expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_any_size_go_to_maps_and_codes_and_back(size: int, channels: int) -> None:
    shape = MapArchitecture.of("tiny", size, channels, 0)
    image = torch.zeros(2, channels, size, size)
    mean, log_variance = MapEncoder(shape)(image)
    assert mean.shape == log_variance.shape == (2, shape.map_dim)
    code, code_log_variance = CodeEncoder(shape)(mean)
    assert code.shape == code_log_variance.shape == (2, shape.code_dim)
    latent = CodeDecoder(shape)(code)
    assert latent.shape == mean.shape
    assert MapDecoder(shape)(latent).shape == CodeGenerator(shape)(code).shape == image.shape


def test_larger_presets_have_more_weights() -> None:
    sizes = [
        sum(each.numel() for each in MapDecoder(MapArchitecture.of(preset, 64, 3, 0)).parameters())
        for preset in get_args(Preset)
    ]
    assert sizes == sorted(set(sizes))


def test_a_doubling_is_nearest_neighbours_and_a_convolution() -> None:
    torch.manual_seed(0)
    doubling, x = _Doubling(5, 3).eval(), torch.randn(2, 5, 6, 7)
    weight = doubling.weight.transpose(0, 1).flip(2, 3)  # a transposed convolution turns its kernel around
    slow = functional.conv2d(functional.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)
    fast = functional.conv_transpose2d(x, doubling.kernel, stride=2, padding=1)
    torch.testing.assert_close(fast, slow)


def test_a_log_variance_is_bounded() -> None:
    encoder = MapEncoder(_shape()).eval()
    with torch.no_grad():
        encoder.out.weight *= 1e4
    _, log_variance = encoder(torch.rand(4, 3, 32, 32))
    assert log_variance.min() == -10
    assert log_variance.max() == 4


def test_first_pictures_have_the_colour_that_they_begin_at() -> None:
    decoder, colour = MapDecoder(_shape()), torch.tensor([0.9, 0.0, -0.5])
    decoder.begin_at(colour)
    drawn = decoder(torch.zeros(2, _shape().map_dim))
    torch.testing.assert_close(drawn.mean((0, 2, 3)), colour, atol=0.1, rtol=0)


def test_a_conditional_generator_draws_by_its_label() -> None:
    generator = CodeGenerator(_shape(labels=2)).eval()
    first, second = generator(torch.zeros(2, 32), torch.tensor([0, 1]))
    assert not torch.equal(first, second)
