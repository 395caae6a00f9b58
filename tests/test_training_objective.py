"""The objective's values against independent formulas: torch.distributions, finite differences, plain sums."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl

from training.networks import Architecture, Discriminator
from training.objective import (
    WEIGHTS,
    adaptive_weight,
    adversarial_loss,
    gradient_penalties,
    kl_divergence,
    reconstruction_nll,
)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_optimal_sigma_likelihood_equals_the_gaussian_density_at_the_mse() -> None:
    images, reconstructions = _normal(5, 3, 4, 4, seed=1), _normal(5, 3, 4, 4, seed=2)
    sigma = (images - reconstructions).square().mean().sqrt()
    expected = -Normal(reconstructions, sigma).log_prob(images).flatten(1).sum(1).mean()
    torch.testing.assert_close(reconstruction_nll(images, reconstructions), expected)


def test_no_other_sigma_makes_the_images_likelier() -> None:
    images, reconstructions = _normal(5, 3, 4, 4, seed=1), _normal(5, 3, 4, 4, seed=2)
    sigma = (images - reconstructions).square().mean().sqrt()
    for factor in (0.9, 1.1):
        other = -Normal(reconstructions, factor * sigma).log_prob(images).flatten(1).sum(1).mean()
        assert reconstruction_nll(images, reconstructions) < other


def test_a_perfect_reconstruction_has_a_finite_likelihood() -> None:
    images = _normal(2, 1, 4, 4)
    assert math.isfinite(reconstruction_nll(images, images).item())


def test_the_kl_divergence_equals_that_of_torch_distributions() -> None:
    mean, log_variance = _normal(6, 8, seed=1), _normal(6, 8, seed=2)
    expected = reference_kl(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)


def test_the_kl_divergence_of_the_prior_itself_is_zero() -> None:
    assert kl_divergence(torch.zeros(3, 4), torch.zeros(3, 4)).item() == 0


def test_the_pairing_loss_compares_each_real_logit_with_its_own_generated_one() -> None:
    winner, loser = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    expected = (math.log1p(math.exp(-0.5)) + math.log1p(math.exp(5.0))) / 2
    assert adversarial_loss(winner, loser).item() == pytest.approx(expected, rel=1e-6)


def test_the_pairing_loss_is_log_2_where_the_logits_are_equal() -> None:
    logits = _normal(4)
    assert adversarial_loss(logits, logits).item() == pytest.approx(math.log(2))


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
    discriminator = Discriminator(Architecture(16, 1, 4, 4, 0))
    both = _normal(4, 1, 16, 16).float().requires_grad_()
    torch.autograd.backward(torch.stack(gradient_penalties(both, discriminator(both))).sum())
    weight = discriminator.trunk.inp.weight
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


def test_the_adaptive_weight_gives_both_gradients_one_norm() -> None:
    reconstruction, adversarial = 30 * _normal(4, 4, seed=1), _normal(4, 4, seed=2)
    weighted = adaptive_weight(reconstruction, adversarial) * adversarial
    torch.testing.assert_close(weighted.norm(), reconstruction.norm(), rtol=1e-5, atol=0)


def test_the_adaptive_weight_is_bounded_where_the_adversarial_gradient_vanishes() -> None:
    assert adaptive_weight(torch.ones(4), torch.zeros(4)).item() == 1e4


def test_three_weights_make_the_three_families() -> None:
    table = {family: (w.reconstruction, w.kl, w.adversarial) for family, w in WEIGHTS.items()}
    assert table == {"vae": (1, 1, 0), "gan": (0, 0, 1), "hybrid": (1, 1, 1)}
