"""The three networks: encoder, generator and discriminator.

    image (N, C, H, W) -> Encoder -> mean, log-variance of q(z|x) -> z (N, Z) -> Generator -> image
    image (N, C, H, W) -> Discriminator -> logit (N,)

The VAE's decoder and the GAN's generator are one class. Every layer is one that onnxruntime runs fast: strided
convolutions, their transposes, linear layers, leaky ReLU, in larger presets residual blocks. No statistic is taken over
a batch, so an image does not depend on its neighbours; but for the baseline, a plain DCGAN, which wants batch norms.
Pixels are in [-1, 1]. Knows nothing of losses, data or export.
"""

from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

import evaluation.first_calls  # noqa: F401
from training.architecture import Architecture

_Layer = TypeVar("_Layer", nn.Linear, nn.Conv2d, nn.ConvTranspose2d)

SLOPE = 0.2
"""Negative slope of the leaky ReLU, as in DCGAN (Radford et al. 2016)."""


HIDDEN = 256
"""Width of the fully connected layers between latent or logit and feature maps. A prior without gaps joins modes that
the images keep apart; these layers pull them apart again for 0.3 of a tiny generator's 1.5 million multiplications."""

HIDDEN_LAYERS = 2
"""Such layers in the generator, after StyleGAN's mapping network (Karras et al. 2019)."""


class Encoder(nn.Module):
    """E: image -> mean and log-variance of q(z|x), a Gaussian with diagonal covariance."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.trunk = _Trunk(replace(architecture, normalised=False))
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
        self.norms = nn.ModuleList(nn.BatchNorm1d(HIDDEN) for _ in self.hidden) if architecture.normalised else None
        self.inp = _initialised(nn.Linear(HIDDEN, widths[0] * self.base**2), fan_in=HIDDEN)
        self.start = _level(widths[0], architecture)
        # A transposed convolution of kernel 4 and stride 2 adds up 2x2 taps of each input channel per output pixel.
        self.up = nn.ModuleList(
            nn.Sequential(
                _initialised(nn.ConvTranspose2d(before, after, 4, 2, 1), fan_in=4 * before),
                *_level(after, architecture),
            )
            for before, after in pairwise(widths)
        )
        # The last doubling is a sub-pixel convolution: a transposed one to 1 or 3 channels uses few of a CPU's lanes.
        self.out = _initialised(
            nn.Conv2d(widths[-1], 4 * architecture.channels, 3, padding=1), fan_in=9 * widths[-1], gain=0.5
        )
        if architecture.normalised:
            self.apply(_initialised_as_dcgan)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """latent: (N, Z) float32, label: (N,) int64. Returns images (N, C, H, W) float32 in [-1, 1]."""
        # What is done to single values is done before they are moved: the graph then ends in the move.
        return functional.pixel_shuffle(torch.tanh(self._values(latent, label)), 2)

    def logits(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """As `forward`, but the log-odds of white (N, C, H, W): an image is 2 sigmoid(logit) - 1 = tanh(logit / 2)."""
        return functional.pixel_shuffle(2 * self._values(latent, label), 2)

    def _values(self, latent: Tensor, label: Tensor | None) -> Tensor:
        """(N, 4 C, H / 2, W / 2) before tanh."""
        x = _with_label(latent, self.embed, label)
        for row, layer in enumerate(self.hidden):
            x = layer(x)
            x = _activate(self.norms[row](x) if self.norms else x)
        x = self.start(torch.unflatten(self.inp(x), 1, (-1, self.base, self.base)))
        for level in self.up:
            x = level(x)
        values: Tensor = self.out(x)
        return values


class Discriminator(nn.Module):
    """D: image -> logit, high for real; with labels by projection (Miyato & Koyama 2018)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.trunk = _Trunk(architecture)
        self.out = _initialised(nn.Linear(HIDDEN, 1), fan_in=HIDDEN)
        self.project = nn.Embedding(architecture.labels, HIDDEN) if architecture.labels else None
        if self.project:
            nn.init.normal_(self.project.weight, std=HIDDEN**-0.5)
        if architecture.normalised:
            self.apply(_initialised_as_dcgan)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """image: (N, C, H, W) float32, label: (N,) int64. Returns logits: (N,) float32."""
        x = self.trunk(image)
        logit: Tensor = self.out(x).squeeze(1)
        if self.project:
            logit = logit + (self.project(label) * x).sum(1)
        return logit

    def distance(self, images: Tensor, others: Tensor) -> Tensor:
        """Mean squared difference of features by level, each scaled to length 1 over channels: a scalar.

        images, others: (N, C, H, W) float32.
        Source: VAE/GAN, Larsen et al. 2016, eq. 7, with the scaling of LPIPS (Zhang et al. 2018, eq. 1).
        """
        pairs = zip(self.trunk.levels(images), self.trunk.levels(others), strict=True)
        return torch.stack([(_unit(x) - _unit(y)).square().sum(1).mean() for x, y in pairs]).sum()


class _Trunk(nn.Module):
    """Strided convolutions down to the base size and one layer over all of it: (N, C, H, W) -> (N, HIDDEN)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        widths = architecture.widths
        inputs = 4 * architecture.channels
        first = _initialised(nn.Conv2d(inputs, widths[0], 3, padding=1), fan_in=9 * inputs)
        # The first layer has no batch norm in DCGAN either.
        levels = [nn.Sequential(first, *_level(widths[0], replace(architecture, normalised=False)))]
        for before, after in pairwise(widths):
            halving = _initialised(nn.Conv2d(before, after, 4, 2, 1), fan_in=16 * before)
            levels.append(nn.Sequential(halving, *_level(after, architecture)))
        self.down = nn.ModuleList(levels)
        features = widths[-1] * architecture.base**2
        self.hidden = _initialised(nn.Linear(features, HIDDEN), fan_in=features)

    def forward(self, x: Tensor) -> Tensor:
        return _activate(self.hidden(self.levels(x)[-1].flatten(1)))

    def levels(self, x: Tensor) -> list[Tensor]:
        """Features (N, width, height, width) of each level, the largest first."""
        x = functional.pixel_unshuffle(x, 2)
        found = []
        for level in self.down:
            x = level(x)
            found.append(x)
        return found


class _Residual(nn.Module):
    """x + convolution(activation(convolution(x))), the second from zero: a block begins as the identity.

    Source: R3GAN, Huang et al. 2024, sec. 3 (no normalisation, Fixup-like start: Zhang et al. 2019).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inp = _initialised(nn.Conv2d(width, width, 3, padding=1), fan_in=9 * width)
        self.out = _initialised(nn.Conv2d(width, width, 3, padding=1), fan_in=9 * width, gain=0)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.out(_activate(self.inp(x)))
        return y


def _level(width: int, architecture: Architecture) -> nn.Sequential:
    """What follows a change of size: batch norm for the baseline, activation, residual blocks."""
    layers: list[nn.Module] = [nn.BatchNorm2d(width)] if architecture.normalised else []
    layers.append(nn.LeakyReLU(SLOPE))
    return nn.Sequential(*layers, *(_Residual(width) for _ in range(architecture.blocks)))


def _unit(x: Tensor) -> Tensor:
    return functional.normalize(x, dim=1, eps=1e-6)


def _activate(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, SLOPE)


def _initialised(layer: _Layer, fan_in: int, gain: float = 1.0) -> _Layer:
    """He initialisation (He et al. 2015) by the number of terms that one output adds up; biases zero."""
    nn.init.normal_(layer.weight, std=gain * (2 / (1 + SLOPE**2) / fan_in) ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _initialised_as_dcgan(layer: nn.Module) -> None:
    """Radford et al. 2016, sec. 4: without it, D of the baseline wins at once and G draws one image only."""
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, std=0.02)


def _embedding(architecture: Architecture) -> nn.Embedding | None:
    return nn.Embedding(architecture.labels, architecture.latent_dim) if architecture.labels else None


def _with_label(x: Tensor, embed: nn.Embedding | None, label: Tensor | None) -> Tensor:
    return x if embed is None else torch.cat([x, embed(label)], dim=1)
