"""Bounds on a linear-Gaussian model, x = W z + noise, whose log-likelihood and posterior are known exactly."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from evaluation.likelihood import iwae_bound

Encoder = Callable[[Tensor], tuple[Tensor, Tensor]]

SIGMA = 0.5

WEIGHTS = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 3)))[0] * np.array([2.0, 1.0, 0.3])
"""Orthogonal columns, so that the posterior's entries are independent, as an encoder's are."""


def _log_likelihood(images: Tensor, latents: Tensor) -> Tensor:
    error = images[:, None] - latents @ torch.from_numpy(WEIGHTS.T).float()
    return -0.5 * (error / SIGMA).square().sum(2) - 6 * math.log(SIGMA * math.sqrt(2 * math.pi))


def _log_prior(latents: Tensor) -> Tensor:
    return -0.5 * (latents.square() + math.log(2 * math.pi)).sum(-1)


def _encoder(shift: float = 0, widen: float = 1) -> Encoder:
    """The exact posterior, or one that is off by so much."""
    variance = 1 / (1 + np.square(WEIGHTS).sum(0) / SIGMA**2)
    weights = torch.from_numpy(WEIGHTS * variance / SIGMA**2).float()

    def encode(images: Tensor) -> tuple[Tensor, Tensor]:
        mean = images @ weights + shift
        return mean, torch.from_numpy(np.log(variance * widen**2)).float().expand_as(mean)

    return encode


@pytest.fixture
def images() -> Tensor:
    noise = np.random.default_rng(1)
    rows = noise.standard_normal((7, 3)) @ WEIGHTS.T + SIGMA * noise.standard_normal((7, 6))
    return torch.from_numpy(rows).float()


@pytest.fixture
def exact(images: Tensor) -> np.ndarray:
    covariance = WEIGHTS @ WEIGHTS.T + SIGMA**2 * np.eye(6)
    return multivariate_normal(np.zeros(6), covariance).logpdf(images.numpy())


@pytest.mark.parametrize("draws", [1, 10])
def test_the_exact_posterior_gives_the_log_likelihood_whatever_it_draws(images: Tensor, exact: np.ndarray, draws: int):
    found = iwae_bound(_encoder(), _log_likelihood, _log_prior, images, draws, seed=0)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, exact, atol=1e-4)


def test_a_wrong_posterior_bounds_from_below_and_more_draws_come_nearer(images: Tensor, exact: np.ndarray):
    encode = _encoder(shift=0.4, widen=1.3)
    found = [
        np.mean([iwae_bound(encode, _log_likelihood, _log_prior, images, k, seed).mean() for seed in range(20)])
        for k in (1, 5, 50)
    ]
    assert found[0] < found[1] < found[2] < exact.mean() + 0.02
    many = iwae_bound(encode, _log_likelihood, _log_prior, images, 5000, seed=0)
    np.testing.assert_allclose(many, exact, atol=0.1)


def test_one_draw_is_the_evidence_lower_bound_in_expectation(images: Tensor, exact: np.ndarray):
    found = np.mean(
        [iwae_bound(_encoder(shift=0.2), _log_likelihood, _log_prior, images, 1, seed).mean() for seed in range(400)]
    )
    variance = 1 / (1 + np.square(WEIGHTS).sum(0) / SIGMA**2)
    divergence = 0.5 * (0.2**2 / variance).sum()  # KL(q(z|x) || p(z|x)) of two Gaussians of one variance
    assert found == pytest.approx(exact.mean() - divergence, abs=0.05)


@pytest.mark.parametrize("rows", [1, 4, 9, 30])
def test_what_is_held_in_memory_changes_nothing(images: Tensor, rows: int):
    encode = _encoder(shift=0.3)
    held: list[int] = []

    def log_likelihood(some: Tensor, latents: Tensor) -> Tensor:
        held.append(latents.shape[0] * latents.shape[1])
        return _log_likelihood(some, latents)

    whole = iwae_bound(encode, _log_likelihood, _log_prior, images, 9, seed=3)
    np.testing.assert_allclose(
        iwae_bound(encode, log_likelihood, _log_prior, images, 9, seed=3, rows=rows), whole, atol=1e-5
    )
    assert max(held) <= rows
    assert sum(held) == 7 * 9


def test_the_seed_decides_and_torch_stays_as_it_was(images: Tensor):
    before = torch.get_rng_state()
    first, again, other = (
        iwae_bound(_encoder(shift=0.3), _log_likelihood, _log_prior, images, 4, seed) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_images_are_handed_on_as_they_came():
    pictures = np.zeros((3, 4, 4, 1), np.uint8)

    def encode(images: np.ndarray) -> tuple[Tensor, Tensor]:
        assert images.dtype == np.uint8
        return torch.zeros(len(images), 2), torch.zeros(len(images), 2)

    found = iwae_bound(encode, lambda _, latents: latents.new_zeros(latents.shape[:2]), _log_prior, pictures, 5, seed=0)
    np.testing.assert_allclose(found, 0, atol=1e-5)  # q = p


def test_weights_too_small_for_floats_are_added_up_in_logarithms(images: Tensor):
    found = iwae_bound(_encoder(), lambda x, z: _log_likelihood(x, z) - 1e5, _log_prior, images, 20, seed=0, rows=6)
    assert np.isfinite(found).all()
    assert (found < -9e4).all()


@pytest.mark.parametrize(("count", "draws", "rows"), [(0, 1, 1), (7, 0, 1), (7, 1, 0)])
def test_nothing_to_draw_is_refused(images: Tensor, count: int, draws: int, rows: int):
    with pytest.raises(ValueError, match=f"got {count} images, {draws} draws and {rows} rows"):
        iwae_bound(_encoder(), _log_likelihood, _log_prior, images[:count], draws, seed=0, rows=rows)


def test_likelihoods_of_another_shape_are_refused(images: Tensor):
    with pytest.raises(ValueError, match=r"\(7, 2, 1\), expected \(7, 2\)"):
        iwae_bound(_encoder(), lambda x, z: _log_likelihood(x, z)[..., None], _log_prior, images, 2, seed=0)
