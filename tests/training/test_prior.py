"""The mixture prior against a known mixture."""

import math

import pytest
import torch
from scipy.stats import norm
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from training.prior import IMAGES_A_COMPONENT, MAX_COMPONENTS, MixturePrior


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
    return MixturePrior.fit(known, images=360, seed=0)


@pytest.fixture
def built() -> MixturePrior:
    """0.2 N(m_1, L_1 L_1^T) + 0.5 N(m_2, ...) + 0.3 N(m_3, ...) in two dimensions."""
    prior = MixturePrior(2, 3)
    prior.thresholds.copy_(torch.from_numpy(norm.ppf([0.2, 0.7])))
    prior.means.copy_(torch.tensor([[4.0, 0.0], [-2.0, 1.0], [0.0, -3.0]]))
    prior.scales.copy_(torch.tensor([[[1.0, 0], [0.5, 2]], [[0.3, 0], [-0.9, 0.4]], [[2.0, 0], [1, 0.1]]]))
    return prior


def _reference(prior: MixturePrior, weights: list[float]) -> MixtureSameFamily:
    """The mixture of a prior's buffers by torch.distributions, in float64."""
    components = MultivariateNormal(prior.means.double(), scale_tril=prior.scales.double())
    return MixtureSameFamily(Categorical(torch.tensor(weights, dtype=torch.float64)), components)


def test_samples_of_a_fitted_prior_have_the_mean_and_covariance_of_the_mixture(
    known: torch.Tensor, fitted: MixturePrior
) -> None:
    samples = fitted(_noise(20_000, 4, seed=1))
    torch.testing.assert_close(samples.mean(0), known.mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(samples.T.cov(), known.T.cov(), rtol=0.05, atol=0.1)


def test_samples_of_a_fitted_prior_fall_to_each_mode_at_its_weight(fitted: MixturePrior) -> None:
    share = (fitted(_noise(20_000, 4, seed=1))[:, 0] > 0).float().mean().item()
    assert share == pytest.approx(0.75, abs=0.02)


def test_samples_have_the_moments_of_the_mixture_that_the_buffers_say(built: MixturePrior) -> None:
    samples = built(_noise(100_000, 3)).double()
    mixture = _reference(built, [0.2, 0.5, 0.3])
    weights, means = mixture.mixture_distribution.probs, built.means.double()
    within = built.scales.double() @ built.scales.double().mT
    between = means[:, :, None] * means[:, None, :]
    covariance = (weights[:, None, None] * (within + between)).sum(0) - mixture.mean.outer(mixture.mean)
    torch.testing.assert_close(samples.mean(0), mixture.mean, rtol=0, atol=0.03)
    torch.testing.assert_close(samples.T.cov(), covariance, rtol=0.02, atol=0.02)


def test_the_log_density_is_that_of_torch_distributions(built: MixturePrior) -> None:
    latents = 3 * _noise(4, 5, 2)
    torch.testing.assert_close(
        built.log_prob(latents), _reference(built, [0.2, 0.5, 0.3]).log_prob(latents.double()).float()
    )


def test_the_log_density_stays_finite_far_from_every_component(built: MixturePrior) -> None:
    far = torch.tensor([[1e4, -1e4]])
    assert built.log_prob(far).isfinite().all()
    torch.testing.assert_close(
        built.log_prob(far), _reference(built, [0.2, 0.5, 0.3]).log_prob(far.double()).float(), rtol=1e-4, atol=0
    )


def test_draws_are_likelier_by_the_mixture_they_came_from_than_by_one_gaussian(
    known: torch.Tensor, fitted: MixturePrior
) -> None:
    gaussian = MixturePrior.fit(known, images=1, seed=0)
    assert len(gaussian.means) == 1
    assert fitted.log_prob(known).mean() > gaussian.log_prob(known).mean() + 0.1


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
    first, again, other = (MixturePrior.fit(known[::20], images=720, seed=seed) for seed in (7, 7, 8))
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), again.buffers(), strict=True))
    assert not torch.equal(first.means, other.means)


def test_a_fit_takes_any_seed_of_a_run(known: torch.Tensor) -> None:
    assert MixturePrior.fit(known[::200], images=72, seed=2**63 - 1).means.isfinite().all()


@pytest.mark.parametrize(
    ("images", "components"),
    [(1, 1), (71, 1), (72, 2), (360, 10), (IMAGES_A_COMPONENT * MAX_COMPONENTS * 2, MAX_COMPONENTS)],
)
def test_the_number_of_components_grows_with_the_images_up_to_a_bound(images: int, components: int) -> None:
    assert len(MixturePrior.fit(_noise(500, 1), images, seed=0).means) == components


def test_fewer_draws_than_components_are_a_component_each() -> None:
    prior = MixturePrior.fit(torch.eye(4), images=1000, seed=0)
    assert len(prior.means) == 4 < 1000 // IMAGES_A_COMPONENT
    assert all(math.isfinite(value) for buffer in prior.buffers() for value in buffer.flatten().tolist())
