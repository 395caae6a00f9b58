"""The adversarial losses, of one kind or another, and what trainings by each are set to by default."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import relu, softplus

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of D's logits (N, ...) for real and for generated images: a scalar."""


@dataclass(frozen=True)
class AdversarialLoss:
    """One kind of adversarial loss.

    of_discriminator, of_generator   what D and G minimise
    has_penalties                    whether D is held by the gradient penalties R1 and R2
    is_normalised                    whether the networks are those of a DCGAN, with batch norms of whole batches
    learning_rate                    by default; None: by the size of the networks
    beta1                            Adam's, by default
    """

    of_discriminator: Loss
    of_generator: Loss
    has_penalties: bool
    is_normalised: bool
    learning_rate: float | None
    beta1: float


ADVERSARIAL = {
    # softplus(-(D(x) - D(G(z)))), pair by pair, and the other way round for G (R3GAN, Huang et al. 2024, eq. 2).
    "relativistic": AdversarialLoss(
        lambda real, fake: softplus(fake - real).mean(),
        lambda real, fake: softplus(real - fake).mean(),
        has_penalties=True,
        is_normalised=False,
        learning_rate=None,
        beta1=0.0,
    ),
    # The hinge loss, by a D that looks at frozen features and is held by spectral norms (Projected GAN, Sauer et al. 2021).
    "features": AdversarialLoss(
        lambda real, fake: relu(1 - real).mean() + relu(1 + fake).mean(),
        lambda real, fake: -fake.mean(),
        has_penalties=False,
        is_normalised=False,
        learning_rate=None,
        beta1=0.0,
    ),
    # softplus(-D(x)) + softplus(D(G(z))), and for G the one that does not saturate (Goodfellow et al. 2014, eq. 1); to
    # compare with: a DCGAN, with its settings (Radford et al. 2016).
    "plain": AdversarialLoss(
        lambda real, fake: softplus(-real).mean() + softplus(fake).mean(),
        lambda real, fake: softplus(-fake).mean(),
        has_penalties=False,
        is_normalised=True,
        learning_rate=2e-4,
        beta1=0.5,
    ),
}
