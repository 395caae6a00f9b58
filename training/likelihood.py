"""The likelihood of pixels given a latent, of one kind or another, in nats per image.

    latents -> decode() -> decoded -> nll(), pixels()

Pure functions, and a record for each kind of those that apply to it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks import Generator

SMALLEST_VARIANCE = (1 / 255) ** 2
"""Keeps the likelihood of a perfect batch finite: half an 8-bit grey level."""


def optimal_variance(images: Tensor, reconstructions: Tensor) -> Tensor:
    """The variance that makes `images` likeliest given their reconstructions: the mean squared error, a scalar.

    Carries no gradient: by the envelope theorem the likelihood's own is the same with and without it, and a mean over
    several processes can be taken first.
    Source: sigma-VAE, Rybkin et al. 2021, eq. 7.
    """
    return (images - reconstructions).detach().square().mean().clamp_min(SMALLEST_VARIANCE)


def gaussian_nll(images: Tensor, reconstructions: Tensor, variance: Tensor) -> Tensor:
    """-log N(x; reconstruction, variance I), summed over pixels.

    images, reconstructions: (..., C, H, W). variance: a scalar. Returns nats per image: (...).
    """
    squares = (images - reconstructions).square() / variance + torch.log(2 * math.pi * variance)
    return 0.5 * squares.flatten(-3).sum(-1)


def bernoulli_nll(images: Tensor, logits: Tensor) -> Tensor:
    """-log p(x|z) where each pixel is white, 1, with a probability of its own, or black, -1; grey ones count in parts.

    images, logits: (..., C, H, W). Returns nats per image, summed over pixels: (...).
    """
    white = (0.5 * (images + 1)).expand_as(logits)
    return functional.binary_cross_entropy_with_logits(logits, white, reduction="none").flatten(-3).sum(-1)


def _logits(generator: nn.Module) -> Callable[[Tensor, Tensor | None], Tensor]:
    assert isinstance(generator, Generator), "whose latents are vectors"
    return generator.logits


@dataclass(frozen=True)
class Likelihood:
    """One kind of likelihood.

    decode(generator, latents, label)   what it is a function of, images or log-odds: (N, C, H, W)
    pixels(decoded)                     images in [-1, 1], the expected ones: (N, C, H, W) float32
    nll(images, decoded, variance)      -log p(x|z): (...)
    has_variance                        whether it has a variance, which is learned
    """

    decode: Callable[[nn.Module, Tensor, Tensor | None], Tensor]
    pixels: Callable[[Tensor], Tensor]
    nll: Callable[[Tensor, Tensor, Tensor], Tensor]
    has_variance: bool


LIKELIHOODS = {
    "gaussian": Likelihood(
        lambda generator, latents, label: generator(latents, label),
        lambda decoded: decoded.float(),
        gaussian_nll,
        has_variance=True,
    ),
    "bernoulli": Likelihood(
        lambda generator, latents, label: _logits(generator)(latents, label),
        lambda decoded: torch.tanh(0.5 * decoded.float()),
        lambda images, decoded, variance: bernoulli_nll(images, decoded),
        has_variance=False,
    ),
}
