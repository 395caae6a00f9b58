"""Shapes of the networks at every kind of size, and that an image depends on nothing but its own latent."""

import pytest
import torch

from training.networks import Architecture, Discriminator, Encoder, Generator, is_supported_size

SHAPES = [(28, 1), (32, 1), (32, 3), (64, 3)]


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("labels", [0, 10])
@pytest.mark.parametrize(("size", "channels"), SHAPES)
def test_the_networks_take_and_give_images_of_the_architectures_size(size: int, channels: int, labels: int) -> None:
    architecture = Architecture(size, channels, 12, 4, labels)
    label = torch.tensor([3, 9]) if labels else None
    images = Generator(architecture)(_noise(2, 12), label)
    mean, log_variance = Encoder(architecture)(images, label)
    assert images.shape == (2, channels, size, size)
    assert mean.shape == log_variance.shape == (2, 12)
    assert Discriminator(architecture)(images, label).shape == (2,)


@pytest.mark.parametrize("network", [Generator, Discriminator])
def test_a_label_changes_what_a_conditional_network_returns(network: type[Generator | Discriminator]) -> None:
    torch.manual_seed(0)
    conditional = network(Architecture(16, 1, 12, 4, 10))
    same = (_noise(1, 12) if network is Generator else _noise(1, 1, 16, 16)).repeat(
        2, *[1] * (network is Generator or 3)
    )
    first, second = conditional(same, torch.tensor([0, 1]))
    assert not torch.allclose(first, second)


def test_an_image_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    torch.manual_seed(0)
    generator = Generator(Architecture(32, 1, 12, 16, 0))
    noise = _noise(8, 12)
    torch.testing.assert_close(generator(noise)[:1], generator(noise[:1]))


def test_supported_sizes_are_four_to_seven_times_a_power_of_two() -> None:
    supported = [size for size in range(1, 600) if is_supported_size(size)]
    assert supported == [
        *[8, 10, 12, 14], *[16, 20, 24, 28], *[32, 40, 48, 56], *[64, 80, 96, 112],
        *[128, 160, 192, 224], *[256, 320, 384, 448], 512,
    ]  # fmt: skip


@pytest.mark.parametrize("size", [8, 14, 48, 512])
def test_every_supported_size_ends_in_a_base_of_four_to_seven_pixels(size: int) -> None:
    architecture = Architecture(size, 1, 4, 16, 0)
    assert 4 <= architecture.base <= 7
    assert architecture.base << len(architecture.widths) == size


def test_widths_double_with_each_halving_up_to_eight_times_the_first() -> None:
    assert Architecture(512, 1, 4, 16, 0).widths == [16, 32, 64, 128, 128, 128, 128]


def test_a_tiny_generator_of_32_pixels_stays_below_five_million_multiplications_an_image() -> None:
    generator = Generator(Architecture(32, 1, 16, 16, 0))
    count = 0

    def add(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal count
        assert isinstance(layer, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d)
        transposed = isinstance(layer, torch.nn.ConvTranspose2d)
        pixels = (inputs[0] if transposed else output).flatten(2).shape[2] if output.dim() == 4 else 1
        count += layer.weight.numel() * pixels

    for layer in generator.modules():
        if not list(layer.children()):
            layer.register_forward_hook(add)
    generator(_noise(1, 16))
    assert 1_000_000 < count < 5_000_000
