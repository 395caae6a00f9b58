"""The module that PyTorch draws with and a naive export is made from.

[prior ->] generator -> Drawing: noise [, label] -> images uint8 NHWC
"""

import torch
from torch import Tensor, nn

from training.code_prior import CodePrior
from training.model import Model

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Drawing(nn.Module):
    """A generator, its prior before it, scaling, rounding, clamping and layout after it."""

    def __init__(self, generator: nn.Module, prior: nn.Module | None = None) -> None:
        super().__init__()
        self.prior = prior
        self.generator = generator

    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """noise: (N, noise_dim) float32, label: (N,) int64 if conditional. Returns (N, H, W, C) uint8, in one piece."""
        own = () if label is None else (label,)
        latent = self.prior(noise, *(own if isinstance(self.prior, CodePrior) else ())) if self.prior else noise
        pixels = self.generator(latent, *own)
        grey_levels: Tensor = pixels.mul(127.5).add(127.5).round().clamp(0, 255)
        return grey_levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def drawing_of(model: Model) -> Drawing:
    """What draws with a trained model."""
    return Drawing(model.generator, model.prior).eval()
