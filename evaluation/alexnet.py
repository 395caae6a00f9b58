"""AlexNet with blurred subsampling, as people's judgements of likeness taught it: a second judge, of another family.

    weights file -> frozen network -> pixels -> five maps, of unit length at each place -> their means over space

A discriminator that sees through EfficientNet is told from a better model here, where it has never been. The weights are not
ours: a package that the extra `features` installs brings them, under BSD 2-clause; of its code nothing is read.
Source: Ghildyal and Liu 2022, shift-tolerant LPIPS; AlexNet is of Krizhevsky et al. 2012, the blur of Zhang 2019.
"""

from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import evaluation.first_calls  # noqa: F401
from evaluation import weights

PACKAGE = "stlpips_pytorch"
"""What brings the weights."""

WIDTHS = (64, 192, 384, 256, 256)
"""Channels of the maps."""

DIM = sum(WIDTHS)
"""Entries of the features."""

_NAMES = ("net.slice1.0", "net.slice2.5", "net.slice3.9", "net.slice4.11", "net.slice5.13")
_KERNELS = (11, 5, 3, 3, 3)
_PADDINGS = (2, 2, 1, 1, 1)
_BLUR = (0.25, 0.5, 0.25)


class AlexNet(nn.Module):
    """The network up to its last convolution; frozen. hash: of the file, 12 hex digits."""

    def __init__(self, file: Path) -> None:
        """Raises: ValueError, if the file is missing or does not hold these weights."""
        super().__init__()
        layers = zip(pairwise((3, *WIDTHS)), _KERNELS, _PADDINGS, strict=True)
        self.layers = nn.ModuleList(nn.Conv2d(*widths, kernel, padding=padding) for widths, kernel, padding in layers)
        self.register_buffer("mean", torch.empty(1, 3, 1, 1))
        self.register_buffer("deviation", torch.empty(1, 3, 1, 1))
        self.hash = self._read(file)
        self.eval().requires_grad_(False)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """pixels: (N, 3, H, W) float32 in [-1, 1], sides of 32 or more. Returns (N, WIDTHS, h, w) each, after ReLU."""
        x = (pixels - self.get_buffer("mean")) / self.get_buffer("deviation")
        x = functional.relu(_halved(self.layers[0](x)))
        found = [x]
        for number, layer in enumerate(self.layers[1:], 1):
            if number <= 2:
                x = _halved(functional.max_pool2d(x, 3, 1))
            x = functional.relu(layer(x))
            found.append(x)
        return found

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: as of `maps`. Returns means over space of maps that have unit length at each place: (N, DIM)."""
        return torch.cat([functional.normalize(each, dim=1).mean((2, 3)) for each in self.maps(pixels)], 1)

    def _read(self, file: Path) -> str:
        with weights.reading(file, "shift-tolerant AlexNet") as (digest, state):
            self.get_buffer("mean").copy_(state["scaling_layer.shift"])
            self.get_buffer("deviation").copy_(state["scaling_layer.scale"])
            for layer, name in zip(self.layers, _NAMES, strict=True):
                layer.load_state_dict({part: state[f"{name}.{part}"] for part in ("weight", "bias")})
        return digest


def packaged_weights() -> Path | None:
    """The file of the package that the extra `features` installs; None where it is not installed."""
    return weights.packaged(PACKAGE, "weights/*/alex_shift_tolerant.pth")


@cache
def network(file: Path) -> AlexNet:
    """The network of a file, read once a process. Raises: ValueError."""
    return AlexNet(file)


def _halved(x: Tensor) -> Tensor:
    """Blurred, and every other row and column of it."""
    line = x.new_tensor(_BLUR)
    kernel = (line[:, None] * line).expand(x.shape[1], 1, 3, 3)
    return functional.conv2d(functional.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])
