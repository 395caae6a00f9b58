"""The mixture prior against a known mixture."""

import math

import pytest
import torch
from scipy.stats import norm

from training.prior import COMPONENTS, MixturePrior


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def known() -> torch.Tensor:
    """20,000 draws of 0.75 N((3, 0, 0), A A^T) + 0.25 N((-3, 1, 0), I)."""
    scale = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [0.0, 0.3, 0.4]])
    draws = _noise(20_000, 3)
    return torch.cat(
        [draws[:15_000] @ scale.T + torch.tensor([3.0, 0, 0]), draws[15_000:] + torch.tensor([-3.0, 1, 0])]
    )


@pytest.fixture(scope="module")
def fitted(known: torch.Tensor) -> MixturePrior:
    return MixturePrior.fit(known, seed=0)


def test_samples_of_a_fitted_prior_have_the_mean_and_covariance_of_the_mixture(
    known: torch.Tensor, fitted: MixturePrior
) -> None:
    samples = fitted(_noise(20_000, 4, seed=1))
    torch.testing.assert_close(samples.mean(0), known.mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(samples.T.cov(), known.T.cov(), rtol=0.05, atol=0.1)


def test_samples_of_a_fitted_prior_fall_to_each_mode_at_its_weight(fitted: MixturePrior) -> None:
    share = (fitted(_noise(20_000, 4, seed=1))[:, 0] > 0).float().mean().item()
    assert share == pytest.approx(0.75, abs=0.02)


def test_the_last_noise_entry_picks_components_at_the_rates_of_their_weights() -> None:
    prior = MixturePrior(1, 3)
    prior.thresholds.copy_(torch.from_numpy(norm.ppf([0.2, 0.5])))
    prior.means.copy_(torch.tensor([[0.0], [1.0], [2.0]]))
    component = prior(_noise(50_000, 2)).squeeze(1).long()
    rates = component.bincount() / len(component)
    torch.testing.assert_close(rates, torch.tensor([0.2, 0.3, 0.5]), rtol=0, atol=0.01)


def test_the_other_noise_entries_are_coordinates_of_the_component() -> None:
    prior = MixturePrior(2, 1)
    prior.means.copy_(torch.tensor([[5.0, -5.0]]))
    prior.scales.copy_(torch.tensor([[[2.0, 0.0], [1.0, 3.0]]]))
    torch.testing.assert_close(prior(torch.tensor([[1.0, -1.0, 9.0]])), torch.tensor([[7.0, -7.0]]))


def test_a_fit_is_decided_by_the_draws_and_the_seed(known: torch.Tensor) -> None:
    first, again = MixturePrior.fit(known[::20], seed=7), MixturePrior.fit(known[::20], seed=7)
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), again.buffers(), strict=True))


def test_fewer_draws_than_components_are_a_component_each() -> None:
    prior = MixturePrior.fit(torch.eye(4), seed=0)
    assert len(prior.means) == 4 < COMPONENTS
    assert all(math.isfinite(value) for buffer in prior.buffers() for value in buffer.flatten().tolist())
