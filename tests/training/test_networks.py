"""Shapes of the networks at every kind of size, how they begin, and that an image depends on its own latent alone."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import nn

from training.architecture import PRESETS, Architecture, Size, is_supported_size
from training.networks import Discriminator, Encoder, Generator, _Residual
from training.settings import Preset

SHAPES = [(28, 1), (32, 1), (32, 3), (64, 3), (128, 3)]

PLAIN = Architecture(32, 1, 12, 4, 0, normalised=True)


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _norms(network: nn.Module) -> int:
    return sum(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in network.modules())


@pytest.mark.parametrize("blocks", [0, 1, 2])
@pytest.mark.parametrize("labels", [0, 10])
@pytest.mark.parametrize(("size", "channels"), SHAPES)
def test_the_networks_take_and_give_images_of_the_architectures_size(
    size: int, channels: int, labels: int, blocks: int
) -> None:
    architecture = Architecture(size, channels, 12, 4, labels, blocks)
    label = torch.tensor([3, 9]) if labels else None
    images = Generator(architecture)(100 * _noise(2, 12), label)
    mean, log_variance = Encoder(architecture)(images, label)
    assert images.shape == (2, channels, size, size)
    assert -1 <= images.min() < 0 < images.max() <= 1
    assert mean.shape == log_variance.shape == (2, 12)
    assert Discriminator(architecture)(images, label).shape == (2,)


def test_there_are_four_presets_each_larger_than_the_last() -> None:
    assert [PRESETS[preset] for preset in get_args(Preset)] == [Size(16, 0), Size(64, 0), Size(64, 1), Size(128, 2)]
    with torch.device("meta"):
        networks = [Generator(Architecture(64, 3, 16, *_shape(preset))) for preset in get_args(Preset)]
    counts = [sum(weight.numel() for weight in network.parameters()) for network in networks]
    assert counts == sorted(counts)
    assert [sum(isinstance(layer, _Residual) for layer in network.modules()) for network in networks] == [0, 0, 4, 8]


def _shape(preset: Preset) -> tuple[int, int, int]:
    return PRESETS[preset].width, 0, PRESETS[preset].blocks


@pytest.mark.parametrize("network", [Generator, Discriminator])
def test_a_label_changes_what_a_conditional_network_returns(network: type[Generator | Discriminator]) -> None:
    torch.manual_seed(0)
    conditional = network(Architecture(16, 1, 12, 4, 10))
    same = (_noise(1, 12) if network is Generator else _noise(1, 1, 16, 16)).repeat(
        2, *[1] * (network is Generator or 3)
    )
    first, second = conditional(same, torch.tensor([0, 1]))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("blocks", [0, 1])
def test_an_image_does_not_depend_on_its_neighbours_in_the_batch(blocks: int) -> None:
    torch.manual_seed(0)
    generator = Generator(Architecture(32, 1, 12, 16, 0, blocks))
    noise = _noise(8, 12)
    torch.testing.assert_close(generator(noise)[:1], generator(noise[:1]))


def test_an_image_of_the_baseline_depends_on_its_neighbours_only_while_it_learns() -> None:
    torch.manual_seed(0)
    generator = Generator(PLAIN)
    noise = _noise(8, 12)
    assert not torch.allclose(generator(noise)[:2], generator(noise[:2]), rtol=0, atol=1e-5)
    generator.eval()
    torch.testing.assert_close(generator(noise)[:1], generator(noise[:1]))


def test_the_baselines_weights_begin_as_those_of_a_dcgan() -> None:
    torch.manual_seed(0)
    layers = [*Generator(PLAIN).modules(), *Discriminator(PLAIN).modules()]
    weights = [each.weight for each in layers if isinstance(each, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    assert torch.cat([weight.flatten() for weight in weights]).std().item() == pytest.approx(0.02, rel=0.02)


def test_an_image_is_the_hyperbolic_tangent_of_half_its_logits() -> None:
    torch.manual_seed(0)
    generator = Generator(Architecture(32, 3, 12, 4, 10, 1))
    noise, label = 5 * _noise(4, 12), torch.arange(4)
    logits = generator.logits(noise, label)
    assert torch.equal(generator(noise, label), torch.tanh(0.5 * logits))
    torch.testing.assert_close(generator(noise, label), 2 * torch.sigmoid(logits) - 1)


def test_a_residual_block_begins_as_the_identity_and_can_leave_it() -> None:
    torch.manual_seed(0)
    block, features = _Residual(8), _noise(2, 8, 5, 5)
    assert torch.equal(block(features), features)
    torch.autograd.backward(block(features).square().sum())
    gradient = block.out.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_residual_blocks_change_nothing_before_they_learned() -> None:
    """Same weights but for the blocks: same images, features and logits."""
    bare, deep = Architecture(16, 1, 12, 4, 0), Architecture(16, 1, 12, 4, 0, blocks=2)
    for network, given in ((Generator, _noise(2, 12)), (Discriminator, _noise(2, 1, 16, 16))):
        torch.manual_seed(0)
        without, with_blocks = network(bare), network(deep)
        blocks = {name for name, layer in with_blocks.named_modules() if isinstance(layer, _Residual)}
        assert blocks
        own = {
            name: weight
            for name, weight in with_blocks.state_dict().items()
            if not any(name.startswith(f"{block}.") for block in blocks)
        }
        for target, source in zip(without.parameters(), own.values(), strict=True):
            target.data.copy_(source)
        assert torch.equal(without(given), with_blocks(given))


@pytest.mark.parametrize("blocks", [0, 1])
def test_only_the_baseline_has_batch_norms(blocks: int) -> None:
    plain, usual = replace(PLAIN, blocks=blocks), replace(PLAIN, normalised=False, blocks=blocks)
    assert _norms(Generator(plain)) == 5  # two of them after the fully connected layers
    assert _norms(Discriminator(plain)) == 2  # after each convolution but the first, as in DCGAN
    assert all(_norms(network(usual)) == 0 for network in (Generator, Encoder, Discriminator))


def test_images_are_at_no_distance_from_themselves_and_at_some_from_others() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(Architecture(32, 3, 12, 4, 0, 1))
    images = _noise(4, 3, 32, 32)
    assert discriminator.distance(images, images).item() == 0
    near, far = (discriminator.distance(images, images + noise * _noise(1, 3, 32, 32)) for noise in (0.01, 1))
    assert 0 < near < far


def test_the_distance_is_that_of_features_scaled_to_length_1_at_each_pixel() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(Architecture(16, 1, 12, 4, 0))
    images, others = _noise(6, 1, 16, 16).chunk(2)
    expected = torch.zeros(())
    for x, y in zip(discriminator.trunk.levels(images), discriminator.trunk.levels(others), strict=True):
        lengths = [features.square().sum(1, keepdim=True).sqrt() for features in (x, y)]
        expected = expected + (x / lengths[0] - y / lengths[1]).square().sum() / lengths[0].numel()
    torch.testing.assert_close(discriminator.distance(images, others), expected)


def test_a_trunk_halves_its_features_level_by_level_down_to_the_base() -> None:
    architecture = Architecture(64, 3, 12, 4, 0, 1)
    levels = Discriminator(architecture).trunk.levels(_noise(2, 3, 64, 64))
    assert [tuple(level.shape) for level in levels] == [(2, 4, 32, 32), (2, 8, 16, 16), (2, 16, 8, 8), (2, 32, 4, 4)]


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
        if isinstance(layer, nn.LeakyReLU):
            return
        assert isinstance(layer, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d)
        transposed = isinstance(layer, torch.nn.ConvTranspose2d)
        pixels = (inputs[0] if transposed else output).flatten(2).shape[2] if output.dim() == 4 else 1
        count += layer.weight.numel() * pixels

    for layer in generator.modules():
        if not list(layer.children()):
            layer.register_forward_hook(add)
    generator(_noise(1, 16))
    assert 1_000_000 < count < 5_000_000
