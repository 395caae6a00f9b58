"""One objective for three families.

    loss = w_rec * reconstruction + w_kl * KL(q(z|x) || p(z)) + w_adv * adversarial

Pure functions of images, latents and logits, in nats per image where they are likelihoods. Knows nothing of networks'
insides, optimisers or data; returns tensors and logs nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.settings import Adversarial, Family


@dataclass(frozen=True)
class Weights:
    """The three weights that make a family."""

    reconstruction: float
    kl: float
    adversarial: float


WEIGHTS: dict[Family, Weights] = {
    "vae": Weights(1, 1, 0),
    "gan": Weights(0, 0, 1),
    "hybrid": Weights(1, 1, 1),
}

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


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)) of (N, Z) each. Returns nats per image: (N,) (Kingma & Welling 2014, app. B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def discriminator_loss(kind: Adversarial, real: Tensor, fake: Tensor) -> Tensor:
    """What D minimises, of its logits (N,) for real and generated images: a scalar.

    relativistic: softplus(-(D(x) - D(G(z)))), pair by pair (R3GAN, Huang et al. 2024, eq. 2).
    plain: softplus(-D(x)) + softplus(D(G(z))) (Goodfellow et al. 2014, eq. 1).
    """
    if kind == "relativistic":
        return functional.softplus(fake - real).mean()
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def generator_loss(kind: Adversarial, real: Tensor, fake: Tensor) -> Tensor:
    """What G minimises: the pairing loss the other way round, or the plain one that does not saturate."""
    return functional.softplus(real - fake if kind == "relativistic" else -fake).mean()


def gradient_penalties(real_and_fake: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """R1 and R2: E |grad_x D(x)|^2 / 2, zero-centred, on real and on generated images.

    real_and_fake: (2N, C, H, W), the real images first; `logits`, (2N,), were computed from it with gradients on.
    Returns two scalars. Source: Mescheder et al. 2018, eq. 9; both at every step as in R3GAN.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), real_and_fake, create_graph=True)
    r1, r2 = 0.5 * gradient.square().flatten(1).sum(1).view(2, -1).mean(1)
    return r1, r2


def adaptive_weights(reconstruction: Sequence[Tensor], adversarial: Sequence[Tensor]) -> Tensor:
    """For each tensor of G the factor that gives its adversarial gradient the norm of the reconstruction's: (tensors,).

    Source: VQGAN, Esser et al. 2021, eq. 7, with its bounds. There the last layer's factor serves all; by tensor, layers
    whose two gradients differ in another proportion than the last one's keep the balance too.
    """
    wanted = torch.stack(torch._foreach_norm(list(reconstruction)))
    there = torch.stack(torch._foreach_norm(list(adversarial)))
    return (wanted / (there + 1e-6)).clamp(0, 1e4)
