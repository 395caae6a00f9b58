"""A step of a VAE of two stages: images by maps, and maps by codes.

    batch -> half: E -> map -> decoder; other half: E -> map -> code -> map -> decoder -> two lower bounds

Each half has the evidence lower bound of its own way, and each divergence is of all images: the decoder learns both
entries in one batch, at the cost of one pass. Source: Dai & Wipf 2019, whose stages are learned one after the other.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.batch import Batch
from training.code_prior import CodePrior
from training.objective import kl_divergence
from training.schedule import Phase

if TYPE_CHECKING:
    from training.learner import Learner

MAX_GRADIENT = 3000.0
"""Norm to which gradients are cut: ten times what they have once a training runs well, in nats of an image."""


def two_stage_step(learner: "Learner", batch: Batch, phase: Phase) -> dict[str, Tensor]:
    """E, both decoders and the codes' encoder, by both lower bounds."""
    model, weights, half = learner.model, learner.family.weights, len(batch) // 2
    assert model.encoder is not None, "only an autoencoder has a likelihood"
    assert isinstance(model.prior, CodePrior), "of maps"
    with learner.precision():
        mean, log_variance = model.encoder(batch.real)
        code_mean, code_log_variance = model.prior.encoder(mean)
        maps = mean + batch.posterior_noise * (0.5 * log_variance).exp()
        codes = code_mean + batch.prior_noise[:, : model.code_dim] * (0.5 * code_log_variance).exp()
        decoded = model.prior.decoder(codes[half:], batch[half:].label)
        drawn = model.generator(torch.cat([maps[:half], decoded])).float()
    losses = {
        "reconstruction": learner.nll(batch.real[:half], drawn[:half]),
        "kl": kl_divergence(mean.float(), log_variance.float()).mean(),
        "code_reconstruction": learner.nll(batch.real[half:], drawn[half:], keeps_variance=False),
        "code_kl": kl_divergence(code_mean.float(), code_log_variance.float()).mean(),
    }
    nll, kl = losses["reconstruction"] + losses["code_reconstruction"], losses["kl"] + losses["code_kl"]
    learner.descend(learner.g_optimiser, weights.reconstruction * nll + weights.kl * phase.kl * kl, MAX_GRADIENT)
    return losses
