"""One objective for three families.

    loss = w_rec * reconstruction + w_kl * KL(q(z|x) || p(z)) + w_adv * adversarial

Pure functions of images, latents and logits, in nats per image where they are likelihoods. Knows nothing of networks'
insides, optimisers or data; returns tensors and logs nothing.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.settings import Family


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


def reconstruction_nll(images: Tensor, reconstructions: Tensor) -> Tensor:
    """-log p(x|z) of a Gaussian whose variance is the batch's mean squared error, the value that minimises it.

    images, reconstructions: (N, C, H, W). Returns nats per image, summed over pixels, a scalar.
    Source: sigma-VAE, Rybkin et al. 2021, eq. 7. The floor keeps a perfect batch finite: half an 8-bit grey level.
    """
    mse = (images - reconstructions).square().mean().clamp_min((1 / 255) ** 2)
    return 0.5 * images[0].numel() * (torch.log(2 * math.pi * mse) + 1)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)) of (N, Z) each. Returns nats per image, a scalar (Kingma & Welling 2014)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()


def adversarial_loss(winner: Tensor, loser: Tensor) -> Tensor:
    """Relativistic pairing loss softplus(-(winner - loser)) of two (N,) logits, a scalar.

    The discriminator wants D(x) above D(G(z)), the generator the opposite: the same function, the arguments swapped.
    Source: R3GAN, Huang et al. 2024, eq. 2.
    """
    return functional.softplus(loser - winner).mean()


def gradient_penalties(real_and_fake: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """R1 and R2: E |grad_x D(x)|^2 / 2, zero-centred, on real and on generated images.

    real_and_fake: (2N, C, H, W), the real images first; `logits`, (2N,), were computed from it with gradients on.
    Returns two scalars. Source: Mescheder et al. 2018, eq. 9; both at every step as in R3GAN.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), real_and_fake, create_graph=True)
    r1, r2 = 0.5 * gradient.square().flatten(1).sum(1).view(2, -1).mean(1)
    return r1, r2


def adaptive_weight(reconstruction_gradient: Tensor, adversarial_gradient: Tensor) -> Tensor:
    """Factor that gives the adversarial gradient at G's last layer the norm of the reconstruction's.

    Source: VQGAN, Esser et al. 2021, eq. 7, with its bounds on the factor.
    """
    weight: Tensor = reconstruction_gradient.norm() / (adversarial_gradient.norm() + 1e-6)
    return weight.clamp(0, 1e4)
