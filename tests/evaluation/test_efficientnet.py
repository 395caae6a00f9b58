"""EfficientNet-Lite0 with its batch norms folded, beside the network as it was taught, and files that are not it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.efficientnet import CHANNELS, DIM, STRIDES, EfficientNetLite0, network, packaged_weights

FILE = packaged_weights()

assert FILE is not None, "the extra `dev` brings the weights"

STAGES = [(1, 3, 1), (2, 3, 2), (2, 5, 2), (3, 3, 2), (3, 5, 1), (4, 5, 2), (1, 3, 1)]
"""Blocks, kernel, stride of the first."""


@pytest.fixture(scope="module")
def net() -> EfficientNetLite0:
    assert FILE is not None
    return network(FILE)


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _convolved(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """As TensorFlow pads: so that the output has ceil(side / stride) pixels."""
    kernel, groups = weight.shape[-1], x.shape[1] // weight.shape[1]
    margins = []
    for side in (x.shape[3], x.shape[2]):
        padding = max(0, (-(-side // stride) - 1) * stride + kernel - side)
        margins += [padding // 2, padding - padding // 2]
    return functional.conv2d(functional.pad(x, margins), weight, stride=stride, groups=groups)


def _unfolded(state: dict[str, Tensor], x: Tensor) -> tuple[list[Tensor], Tensor]:
    """The outputs of all blocks and the pooled features, a layer of the published network at a time."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (
            state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, variance, weight, bias, eps=1e-3)

    x = functional.relu6(norm(_convolved(x, state["_conv_stem.weight"], 2), "_bn0"))
    outputs: list[Tensor] = []
    for blocks, _, first in STAGES:
        for number in range(blocks):
            name, stride, y = f"_blocks.{len(outputs)}", first if number == 0 else 1, x
            if f"{name}._expand_conv.weight" in state:
                y = functional.relu6(norm(_convolved(y, state[f"{name}._expand_conv.weight"], 1), f"{name}._bn0"))
            y = functional.relu6(norm(_convolved(y, state[f"{name}._depthwise_conv.weight"], stride), f"{name}._bn1"))
            y = norm(_convolved(y, state[f"{name}._project_conv.weight"], 1), f"{name}._bn2")
            x = x + y if y.shape == x.shape and number else y
            outputs.append(x)
    return outputs, functional.relu6(norm(_convolved(x, state["_conv_head.weight"], 1), "_bn1")).mean((2, 3))


def test_folded_batch_norms_change_nothing(net: EfficientNetLite0, pixels: Tensor):
    assert FILE is not None
    state = torch.load(FILE, map_location="cpu", weights_only=True)
    with torch.inference_mode():
        outputs, pooled = _unfolded(state, pixels)
        found = net.maps(pixels)
        torch.testing.assert_close(net(pixels), pooled, rtol=1e-3, atol=1e-4)
    for got, expected in zip(found, (outputs[number] for number in (2, 4, 10, 15)), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


def test_maps_are_at_their_strides(net: EfficientNetLite0, pixels: Tensor):
    maps = net.maps(pixels)
    assert [each.shape for each in maps] == [
        (2, channels, 64 // stride, 96 // stride) for channels, stride in zip(CHANNELS, STRIDES, strict=True)
    ]
    assert net(pixels).shape == (2, DIM)


def test_it_stays_frozen_in_what_trains_around_it(net: EfficientNetLite0, pixels: Tensor):
    around = nn.Sequential(net).train()
    assert not net.training
    assert not any(weight.requires_grad for weight in around.parameters())
    shown = pixels.clone().requires_grad_()
    net(shown).sum().backward()
    assert shown.grad is not None
    assert shown.grad.abs().max() > 0


def test_a_file_is_read_once_and_named_by_its_hash(net: EfficientNetLite0):
    assert FILE is not None
    assert network(FILE) is net
    assert len(net.hash) == 12


def test_a_file_that_is_missing_or_garbage_or_of_another_network_is_named(tmp_path: Path):
    garbage, other, listed = tmp_path / "garbage.pth", tmp_path / "other.pth", tmp_path / "list.pth"
    garbage.write_bytes(b"no weights")
    torch.save({"weight": torch.zeros(3)}, other)
    torch.save([torch.zeros(3)], listed)
    for file in (tmp_path / "missing.pth", garbage, listed):
        with pytest.raises(ValueError, match=f"cannot read {file} as EfficientNet-Lite0's weights: "):
            EfficientNetLite0(file)
    with pytest.raises(ValueError, match=f"{other} has no .*, so it is not EfficientNet-Lite0's"):
        EfficientNetLite0(other)


def test_weights_of_another_shape_are_refused(tmp_path: Path):
    assert FILE is not None
    state = torch.load(FILE, map_location="cpu", weights_only=True)
    state["_conv_head.weight"] = torch.zeros(7, 320, 1, 1)
    torch.save(state, tmp_path / "narrow.pth")
    with pytest.raises(ValueError, match=r"narrow\.pth as EfficientNet-Lite0's weights"):
        EfficientNetLite0(tmp_path / "narrow.pth")
