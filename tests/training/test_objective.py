"""The objective's values against independent formulas: torch.distributions, finite differences, plain sums."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal
from torch.distributions import kl_divergence as reference_kl

from training.adversarial import ADVERSARIAL
from training.architecture import Architecture
from training.families import FamilyName, family
from training.likelihood import bernoulli_nll, gaussian_nll, optimal_variance
from training.networks import Discriminator
from training.objective import adaptive_weights, gradient_penalties, kl_divergence
from training.settings import Adversarial


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _pair() -> tuple[Tensor, Tensor]:
    return _normal(5, 3, 4, 4, seed=1), _normal(5, 3, 4, 4, seed=2)


def _density(images: Tensor, reconstructions: Tensor, sigma: Tensor) -> Tensor:
    return -Normal(reconstructions, sigma).log_prob(images).flatten(1).sum(1)


def _softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_the_gaussian_likelihood_equals_the_density_at_the_optimal_variance() -> None:
    images, reconstructions = _pair()
    variance = optimal_variance(images, reconstructions)
    expected = _density(images, reconstructions, (images - reconstructions).square().mean().sqrt())
    torch.testing.assert_close(gaussian_nll(images, reconstructions, variance), expected)


def test_no_other_variance_makes_the_images_likelier() -> None:
    images, reconstructions = _pair()
    variance = optimal_variance(images, reconstructions)
    for factor in (0.9, 1.1):
        other = gaussian_nll(images, reconstructions, factor * variance)
        assert gaussian_nll(images, reconstructions, variance).sum() < other.sum()


def test_the_likelihoods_gradient_is_that_of_the_logarithm_of_the_error() -> None:
    """The envelope theorem: with the variance kept out of the gradient, it is as if it had been in."""
    images, reconstructions = _pair()
    reconstructions.requires_grad_()
    nll = gaussian_nll(images, reconstructions, optimal_variance(images, reconstructions)).mean()
    (found,) = torch.autograd.grad(nll, reconstructions)
    error = (images - reconstructions).square().mean()
    (expected,) = torch.autograd.grad(0.5 * images[0].numel() * error.log(), reconstructions)
    torch.testing.assert_close(found, expected)


def test_a_perfect_reconstruction_has_a_finite_likelihood() -> None:
    images = _normal(2, 1, 4, 4)
    assert gaussian_nll(images, images, optimal_variance(images, images)).isfinite().all()


def test_likelihoods_take_several_reconstructions_of_an_image() -> None:
    images, several = _normal(5, 3, 4, 4), _normal(5, 7, 3, 4, 4, seed=1)
    for nll in (bernoulli_nll, lambda x, y: gaussian_nll(x, y, torch.tensor(0.3))):
        found = nll(images[:, None], several)
        assert found.shape == (5, 7)
        torch.testing.assert_close(found[:, 6], nll(images, several[:, 6]))


def test_the_bernoulli_likelihood_equals_the_distributions_where_pixels_are_black_or_white() -> None:
    white, logits = (_normal(5, 3, 4, 4) > 0).double(), 3 * _normal(5, 3, 4, 4, seed=1)
    expected = -Bernoulli(logits=logits).log_prob(white).flatten(1).sum(1)
    torch.testing.assert_close(bernoulli_nll(2 * white - 1, logits), expected)


def test_the_bernoulli_likelihood_of_grey_is_the_cross_entropy() -> None:
    images, logits = torch.tanh(_normal(5, 3, 4, 4)), _normal(5, 3, 4, 4, seed=1)
    grey, white = (images + 1) / 2, 1 / (1 + torch.exp(-logits))
    expected = -(grey * white.log() + (1 - grey) * (1 - white).log()).sum((1, 2, 3))
    torch.testing.assert_close(bernoulli_nll(images, logits), expected)


def test_the_kl_divergence_equals_that_of_torch_distributions() -> None:
    mean, log_variance = _normal(6, 8, seed=1), _normal(6, 8, seed=2)
    expected = reference_kl(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)


def test_the_kl_divergence_of_the_prior_itself_is_zero() -> None:
    assert kl_divergence(torch.zeros(3, 4), torch.zeros(3, 4)).tolist() == [0, 0, 0]


def test_the_pairing_loss_compares_each_real_logit_with_its_own_generated_one() -> None:
    real, fake = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    for_d, for_g = (_softplus(-0.5) + _softplus(5)) / 2, (_softplus(0.5) + _softplus(-5)) / 2
    assert ADVERSARIAL["relativistic"].of_discriminator(real, fake).item() == pytest.approx(for_d, rel=1e-6)
    assert ADVERSARIAL["relativistic"].of_generator(real, fake).item() == pytest.approx(for_g, rel=1e-6)


def test_the_plain_loss_judges_each_logit_by_itself() -> None:
    real, fake = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    for_d = (_softplus(-1) + _softplus(2) + _softplus(0.5) + _softplus(3)) / 2
    assert ADVERSARIAL["plain"].of_discriminator(real, fake).item() == pytest.approx(for_d, rel=1e-6)
    for_g = (_softplus(-0.5) + _softplus(-3)) / 2
    assert ADVERSARIAL["plain"].of_generator(real, fake).item() == pytest.approx(for_g, rel=1e-6)


def test_the_hinge_loss_leaves_logits_beyond_one_alone() -> None:
    real, fake = torch.tensor([[2.0, 0.5]]), torch.tensor([[-3.0, 0.0]])
    assert ADVERSARIAL["features"].of_discriminator(real, fake).item() == pytest.approx(0.25 + 0.5)
    assert ADVERSARIAL["features"].of_generator(real, fake).item() == pytest.approx(1.5)


@pytest.mark.parametrize(("kind", "logarithms"), [("relativistic", 1), ("plain", 2)])
def test_a_discriminator_that_cannot_tell_loses_log_2_a_judgement(kind: Adversarial, logarithms: int) -> None:
    undecided = torch.zeros(4)
    assert ADVERSARIAL[kind].of_discriminator(undecided, undecided).item() == pytest.approx(logarithms * math.log(2))
    assert ADVERSARIAL[kind].of_generator(undecided, undecided).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("kind", ["relativistic", "plain", "features"])
def test_a_generator_learns_even_where_the_discriminator_is_sure(kind: Adversarial) -> None:
    fake = torch.full((4,), -20.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(ADVERSARIAL[kind].of_generator(torch.full((4,), 20.0), fake), fake)
    torch.testing.assert_close(gradient, torch.full((4,), -0.25))


def test_the_gradient_penalties_equal_finite_differences_of_the_discriminator() -> None:
    torch.manual_seed(0)
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0)).double()
    both = _normal(4, 1, 4, 4).requires_grad_()
    r1, r2 = gradient_penalties(both, discriminator(both))

    squares = torch.zeros(4, dtype=torch.float64)
    for pixel in range(16):
        step = torch.zeros(16, dtype=torch.float64)
        step[pixel] = 1e-5
        step = step.view(1, 1, 4, 4)
        with torch.no_grad():
            squares += ((discriminator(both + step) - discriminator(both - step)) / 2e-5).square()
    torch.testing.assert_close(torch.stack([r1, r2]), 0.5 * squares.view(2, 2).mean(1), rtol=1e-6, atol=0)


def test_the_gradient_penalties_can_be_differentiated_by_the_discriminators_weights() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(Architecture(16, 1, 4, 4, 0, blocks=1))
    both = _normal(4, 1, 16, 16).float().requires_grad_()
    torch.autograd.backward(torch.stack(gradient_penalties(both, discriminator(both))).sum())
    first = next(discriminator.parameters())
    assert first.dim() == 4
    assert first.grad is not None
    assert first.grad.abs().sum() > 0


def test_the_adaptive_weights_give_both_gradients_of_each_tensor_one_norm() -> None:
    reconstruction = [30 * _normal(4, 4, seed=1), _normal(3, seed=2)]
    adversarial = [_normal(4, 4, seed=3), 5 * _normal(3, seed=4)]
    weights = adaptive_weights(reconstruction, adversarial)
    assert weights[0] > 1 > weights[1]
    for weight, wanted, there in zip(weights, reconstruction, adversarial, strict=True):
        torch.testing.assert_close((weight * there).norm(), wanted.norm(), rtol=1e-5, atol=0)


def test_an_adaptive_weight_is_bounded_where_the_adversarial_gradient_vanishes() -> None:
    assert adaptive_weights([torch.ones(4), torch.ones(4)], [torch.zeros(4), torch.ones(4)]).tolist() == [
        1e4,
        pytest.approx(1, rel=1e-5),
    ]


def test_an_adaptive_weight_is_zero_where_the_reconstruction_asks_for_nothing() -> None:
    assert adaptive_weights([torch.zeros(4)], [torch.ones(4)]).tolist() == [0]


def test_three_weights_make_the_three_families() -> None:
    weights = {name: family(name).weights for name in get_args(FamilyName)}
    table = {name: (w.reconstruction, w.kl, w.adversarial) for name, w in weights.items()}
    assert table == {"vae": (1, 1, 0), "gan": (0, 0, 1), "hybrid": (1, 1, 1)}
