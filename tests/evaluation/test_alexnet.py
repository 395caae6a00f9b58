"""The second judge's network, beside a plain one of the same weights, and files that are not it."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from evaluation.alexnet import DIM, WIDTHS, AlexNet, network, packaged_weights

FILE = packaged_weights()

assert FILE is not None, "the extra `dev` brings the weights"


def test_maps_are_those_of_the_layers_one_after_another():
    assert FILE is not None
    state = torch.load(FILE, map_location="cpu", weights_only=True)
    pixels = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def blurred(x: torch.Tensor) -> torch.Tensor:
        padded = nn.ReflectionPad2d(2)(x)
        kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
        planes = [functional.conv2d(padded[:, n : n + 1], kernel[None, None], stride=2) for n in range(x.shape[1])]
        return torch.cat(planes, 1)

    def convolved(x: torch.Tensor, name: str, padding: int) -> torch.Tensor:
        return functional.conv2d(x, state[f"net.{name}.weight"], state[f"net.{name}.bias"], padding=padding)

    with torch.inference_mode():
        x = (pixels - state["scaling_layer.shift"]) / state["scaling_layer.scale"]
        first = blurred(convolved(x, "slice1.0", 2)).relu()
        second = convolved(blurred(functional.max_pool2d(first, 3, 1)), "slice2.5", 2).relu()
        third = convolved(blurred(functional.max_pool2d(second, 3, 1)), "slice3.9", 1).relu()
        fourth = convolved(third, "slice4.11", 1).relu()
        fifth = convolved(fourth, "slice5.13", 1).relu()
        found = network(FILE).maps(pixels)
    for got, expected in zip(found, (first, second, third, fourth, fifth), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_features_are_means_of_directions():
    assert FILE is not None
    features = network(FILE)(torch.zeros(3, 3, 64, 64))
    assert features.shape == (3, DIM)
    for part in features.split(WIDTHS, 1):
        assert 0 < part.norm(dim=1).max() <= 1 + 1e-5


def test_a_file_that_is_missing_or_garbage_or_of_another_network_is_named(tmp_path: Path):
    garbage, other, listed = tmp_path / "garbage.pth", tmp_path / "other.pth", tmp_path / "list.pth"
    garbage.write_bytes(b"no weights")
    torch.save({"weight": torch.zeros(3)}, other)
    torch.save([torch.zeros(3)], listed)
    for file in (tmp_path / "missing.pth", garbage, listed):
        with pytest.raises(ValueError, match=f"cannot read {file} as shift-tolerant AlexNet's weights: "):
            AlexNet(file)
    with pytest.raises(ValueError, match=f"{other} has no .*, so it is not shift-tolerant AlexNet's"):
        AlexNet(other)
