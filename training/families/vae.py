"""VAE: E and G by the evidence lower bound (Kingma & Welling 2014, eq. 3), from the first step to the last."""

from typing import TYPE_CHECKING

from torch import Tensor

from training.batch import Batch
from training.families.base import Family, Weights
from training.objective import kl_divergence
from training.schedule import Phase

if TYPE_CHECKING:
    from training.learner import Learner

MAX_GRADIENT = 50_000.0
"""Norm to which gradients are cut, in nats of an image. On grey digits they have 300 to 4,000, on colour pictures of 64 pixels
5,000 and up to 48,000 in the first steps; there a log-variance that runs away for a step has had 4e11, by which Adam goes on to
divide for thousands of steps."""


def likelihood_step(learner: "Learner", batch: Batch, phase: Phase) -> dict[str, Tensor]:
    """E and G by the evidence lower bound."""
    encoder, weights = learner.model.encoder, learner.family.weights
    assert encoder is not None, "only an autoencoder has a likelihood"
    with learner.precision():
        mean, log_variance = encoder(batch.real, batch.label)
        latents = mean.float() + batch.posterior_noise * (0.5 * log_variance.float()).exp()
        decoded = learner.decode(latents, batch.label)
    losses = {
        "reconstruction": learner.nll(batch.real, decoded.float()),
        "kl": kl_divergence(mean.float(), log_variance.float()).mean(),
    }
    loss = weights.reconstruction * losses["reconstruction"] + weights.kl * phase.kl * losses["kl"]
    learner.descend(learner.g_optimiser, loss, MAX_GRADIENT)
    return losses


FAMILY = Family(Weights(1, 1, 0), adversarial_start=1.0, likelihood_step=likelihood_step)
