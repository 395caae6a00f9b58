"""The three networks: encoder, generator and discriminator, without normalisation layers.

    image (N, C, H, W) -> Encoder -> mean, log-variance of q(z|x) -> z (N, Z) -> Generator -> image
    image (N, C, H, W) -> Discriminator -> logit (N,)

The VAE's decoder and the GAN's generator are one class. Every layer is one that onnxruntime runs fast: strided
convolutions, their transposes, a linear layer, leaky ReLU; no statistic is taken over a batch, so an image does not
depend on its neighbours. Pixels are in [-1, 1]. Knows nothing of losses, data or export.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

_Layer = TypeVar("_Layer", nn.Linear, nn.Conv2d, nn.ConvTranspose2d)

SLOPE = 0.2
"""Negative slope of the leaky ReLU, as in DCGAN (Radford et al. 2016)."""

WIDTHS = {"tiny": 16, "small": 64}
"""Channels at half the image's size, by preset; they double with each halving."""

MAX_WIDENING = 8
"""The widest layer has this many times the channels of the narrowest."""

HIDDEN = 256
"""Width of the fully connected layers between latent or logit and feature maps. A prior without gaps joins modes that
the images keep apart; these layers pull them apart again for 0.3 of a tiny generator's 1.5 million multiplications."""

HIDDEN_LAYERS = 2
"""Such layers in the generator, after StyleGAN's mapping network (Karras et al. 2019)."""


@dataclass(frozen=True)
class Architecture:
    """Everything that decides the shapes of the networks' weights."""

    size: int
    channels: int
    latent_dim: int
    width: int
    labels: int
    """Number of classes of a conditional model; 0 = unconditional."""

    @property
    def base(self) -> int:
        """Height and width of the smallest feature map, 4 to 7 pixels."""
        base = self.size
        while base > 7:
            base //= 2
        return base

    @property
    def widths(self) -> list[int]:
        """Channels from half the image's size down to `base`, e.g. [16, 32, 64] for 32 pixels at tiny."""
        levels = (self.size // self.base).bit_length() - 1
        return [self.width * min(2**level, MAX_WIDENING) for level in range(levels)]


def is_supported_size(size: int) -> bool:
    """Whether networks can be built for `size` pixels: 4 to 7 times a power of two, from 8 to 512."""
    return 8 <= size <= 512 and any(size == base << level for base in range(4, 8) for level in range(1, 8))


class Encoder(nn.Module):
    """E: image -> mean and log-variance of q(z|x), a Gaussian with diagonal covariance."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.trunk = _Trunk(architecture)
        self.embed = _embedding(architecture)
        features = HIDDEN + (self.embed.embedding_dim if self.embed else 0)
        self.out = _initialised(nn.Linear(features, 2 * architecture.latent_dim), fan_in=features, gain=0.5)

    def forward(self, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """image: (N, C, H, W) float32, label: (N,) int64. Returns mean, log-variance: (N, Z) float32 each."""
        mean, log_variance = self.out(_with_label(self.trunk(image), self.embed, label)).chunk(2, dim=1)
        return mean, log_variance


class Generator(nn.Module):
    """G: latent -> image; the decoder of an autoencoder and the generator of a GAN."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        widths = architecture.widths[::-1]
        self.base = architecture.base
        self.embed = _embedding(architecture)
        inputs = architecture.latent_dim + (self.embed.embedding_dim if self.embed else 0)
        self.hidden = nn.ModuleList(
            _initialised(nn.Linear(before, HIDDEN), fan_in=before)
            for before in [inputs, *[HIDDEN] * (HIDDEN_LAYERS - 1)]
        )
        self.inp = _initialised(nn.Linear(HIDDEN, widths[0] * self.base**2), fan_in=HIDDEN)
        # A transposed convolution of kernel 4 and stride 2 adds up 2x2 taps of each input channel per output pixel.
        self.up = nn.ModuleList(
            _initialised(nn.ConvTranspose2d(before, after, 4, 2, 1), fan_in=4 * before)
            for before, after in pairwise(widths)
        )
        # The last doubling is a sub-pixel convolution: a transposed one to 1 or 3 channels uses few of a CPU's lanes.
        self.out = _initialised(
            nn.Conv2d(widths[-1], 4 * architecture.channels, 3, padding=1), fan_in=9 * widths[-1], gain=0.5
        )

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """latent: (N, Z) float32, label: (N,) int64. Returns (N, C, H, W) float32, not clamped to [-1, 1]."""
        x = _with_label(latent, self.embed, label)
        for layer in self.hidden:
            x = _activate(layer(x))
        x = torch.unflatten(_activate(self.inp(x)), 1, (-1, self.base, self.base))
        for layer in self.up:
            x = _activate(layer(x))
        return functional.pixel_shuffle(self.out(x), 2)


class Discriminator(nn.Module):
    """D: image -> logit, high for real; with labels by projection (Miyato & Koyama 2018)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.trunk = _Trunk(architecture)
        self.out = _initialised(nn.Linear(HIDDEN, 1), fan_in=HIDDEN)
        self.project = nn.Embedding(architecture.labels, HIDDEN) if architecture.labels else None
        if self.project:
            nn.init.normal_(self.project.weight, std=HIDDEN**-0.5)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """image: (N, C, H, W) float32, label: (N,) int64. Returns logits: (N,) float32."""
        x = self.trunk(image)
        logit: Tensor = self.out(x).squeeze(1)
        if self.project:
            logit = logit + (self.project(label) * x).sum(1)
        return logit


class _Trunk(nn.Module):
    """Strided convolutions down to the base size and one layer over all of it: (N, C, H, W) -> (N, HIDDEN)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        widths = architecture.widths
        inputs = 4 * architecture.channels
        self.inp = _initialised(nn.Conv2d(inputs, widths[0], 3, padding=1), fan_in=9 * inputs)
        self.down = nn.ModuleList(
            _initialised(nn.Conv2d(before, after, 4, 2, 1), fan_in=16 * before) for before, after in pairwise(widths)
        )
        features = widths[-1] * architecture.base**2
        self.hidden = _initialised(nn.Linear(features, HIDDEN), fan_in=features)

    def forward(self, x: Tensor) -> Tensor:
        x = _activate(self.inp(functional.pixel_unshuffle(x, 2)))
        for layer in self.down:
            x = _activate(layer(x))
        return _activate(self.hidden(x.flatten(1)))


def _activate(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, SLOPE)


def _initialised(layer: _Layer, fan_in: int, gain: float = 1.0) -> _Layer:
    """He initialisation (He et al. 2015) by the number of terms that one output adds up; biases zero."""
    nn.init.normal_(layer.weight, std=gain * (2 / (1 + SLOPE**2) / fan_in) ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _embedding(architecture: Architecture) -> nn.Embedding | None:
    return nn.Embedding(architecture.labels, architecture.latent_dim) if architecture.labels else None


def _with_label(x: Tensor, embed: nn.Embedding | None, label: Tensor | None) -> Tensor:
    return x if embed is None else torch.cat([x, embed(label)], dim=1)
