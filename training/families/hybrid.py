"""Hybrid: a VAE first; then E and the prior are final, and G learns from D as well as by the likelihood."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.batch import Batch
from training.families.base import Family, Weights
from training.families.gan import Drawn, Gradients, Losses, Opponents
from training.families.vae import likelihood_step
from training.networks import Discriminator
from training.objective import adaptive_weights

if TYPE_CHECKING:
    from training.learner import Learner

ADVERSARIAL_SHARE = 3.0
"""Norm of a weight's adversarial gradient as a multiple of its reconstruction gradient's."""


class _OpponentsOfADecoder(Opponents):
    """D is shown samples of the prior beside reconstructions, in every other row, which G goes on to learn from."""

    @torch.no_grad()
    def latents(self, learner: "Learner", batch: Batch) -> Tensor:
        """Samples of the prior; every other row is a draw from q(z|x) of the final E."""
        encoder = learner.model.encoder
        assert encoder is not None, "a hybrid has an E"
        latents = learner.model.latent(batch.prior_noise)
        with learner.precision():
            label = None if batch.label is None else batch.label[::2]
            mean, log_variance = encoder(batch.real[::2], label)
        latents = latents.clone()  # a prior that is N(0, I) gives the noise itself
        latents[::2] = mean.float() + batch.posterior_noise[::2] * (0.5 * log_variance.float()).exp()
        return latents

    def joined(self, learner: "Learner", batch: Batch, drawn: Drawn, losses: Losses) -> Gradients:
        """The adversarial gradient joins the reconstruction's, weight by weight."""
        feature_matching = learner.settings.perceptual
        losses["reconstruction"] = loss = learner.nll(batch.real[::2], drawn.decoded[::2].float())
        if feature_matching:
            assert isinstance(learner.discriminator, Discriminator), "of features learns by another step"
            with learner.precision():
                losses["perceptual"] = learner.discriminator.distance(batch.real[::2], drawn.images[::2])
            loss = loss + feature_matching * losses["perceptual"]
        weights = list(learner.model.generator.parameters())
        rebuilding = torch.autograd.grad(learner.family.weights.reconstruction * loss, weights)
        learner.world.average_(rebuilding)
        factors = adaptive_weights(rebuilding, drawn.gradients)
        losses["adversarial_weight"] = factors.mean()
        pulled = torch._foreach_mul(drawn.gradients, list((ADVERSARIAL_SHARE * factors).unbind()))
        return torch._foreach_add(rebuilding, pulled)


FAMILY = Family(
    Weights(1, 1, 1),
    # Its samples that D is shown come from the very prior that will be served.
    adversarial_start=0.7,
    likelihood_step=likelihood_step,
    adversarial_step=_OpponentsOfADecoder(),
    latent_dim=20,
)
