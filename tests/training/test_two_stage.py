"""A step of a VAE of two stages descends the sum of both lower bounds."""

from copy import deepcopy
from pathlib import Path

import torch

from training.architecture import MapArchitecture
from training.batch import Batch
from training.code_prior import CodePrior
from training.learner import Learner
from training.likelihood import gaussian_nll, optimal_variance
from training.model import ModelFacts
from training.objective import kl_divergence
from training.parallel import ALONE
from training.schedule import Phase
from training.settings import TrainSettings
from training.two_stage import MAX_GRADIENT

SHAPE = MapArchitecture.of("tiny", 16, 3, 0)
N = 6


def _learner() -> Learner:
    settings = TrainSettings(
        data="digits", family="vae", out=Path("run"), batch=N, device="cpu", latent="map", adversarial="relativistic"
    )
    return Learner(settings, ModelFacts("vae", SHAPE, [], 0), torch.device("cpu"), ALONE)


def _batch() -> Batch:
    draw = torch.Generator().manual_seed(0)
    real = torch.tanh(torch.randn(N, 3, 16, 16, generator=draw))
    noise = [torch.randn(N, dim, generator=draw) for dim in (SHAPE.map_dim, SHAPE.code_dim)]
    return Batch(real, None, *noise, None, None)


def test_half_of_the_images_come_by_their_maps_and_half_by_their_codes() -> None:
    learner, batch, half = _learner(), _batch(), N // 2
    before = deepcopy(learner.model)
    losses = learner.learn(batch, Phase(False, 0.05))

    assert before.encoder is not None
    assert isinstance(before.prior, CodePrior)
    mean, log_variance = before.encoder(batch.real)
    code_mean, code_log_variance = before.prior.encoder(mean)
    maps = mean + batch.posterior_noise * (log_variance / 2).exp()
    codes = code_mean + batch.prior_noise * (code_log_variance / 2).exp()
    drawn = before.generator(torch.cat([maps[:half], before.prior.decoder(codes[half:])]))
    loss = 0.5 * (kl_divergence(mean, log_variance).mean() + kl_divergence(code_mean, code_log_variance).mean())
    for rows in (slice(None, half), slice(half, None)):
        loss = (
            loss + gaussian_nll(batch.real[rows], drawn[rows], optimal_variance(batch.real[rows], drawn[rows])).mean()
        )
    gradients = torch.autograd.grad(loss, list(before.parameters()))
    norm = torch.stack([each.norm() for each in gradients]).norm()
    scale = min(1.0, MAX_GRADIENT / float(norm))
    torch.testing.assert_close(
        [each.grad for each in learner.model.parameters()], [scale * each for each in gradients], rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(losses["code_kl"], kl_divergence(code_mean, code_log_variance).mean().detach())
    variance = optimal_variance(batch.real[:half], drawn[:half])  # of reconstructions by maps
    torch.testing.assert_close(learner.model.variance, variance)
