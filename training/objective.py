"""Terms of the objective that no choice changes: the KL divergence, D's gradient penalties, and how G's parts are balanced.

Pure functions of latents, images and logits. Knows nothing of networks' insides, optimisers or data.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)) of (N, Z) each. Returns nats per image: (N,) (Kingma & Welling 2014, app. B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


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
    whose two gradients differ in another proportion than the last one's keep the balance too. The bound is for a gradient
    that vanishes: on colour pictures of 64 pixels factors are 200 to 2,000, before a D has learned anything up to 8,000; of
    400 photos of 32 pixels, each shown more than 10,000 times, they were at the bound for two thirds of the phase.
    """
    wanted = torch.stack(torch._foreach_norm(list(reconstruction)))
    there = torch.stack(torch._foreach_norm(list(adversarial)))
    return (wanted / (there + 1e-6)).clamp(0, 1e4)
