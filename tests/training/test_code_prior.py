"""What noise becomes on its way to a map, and mixtures for each label."""

import torch

from training.architecture import MapArchitecture
from training.code_prior import CodePrior
from training.prior import LabelledMixturePrior, MixturePrior

SHAPE = MapArchitecture.of("tiny", 32, 3, 0)


def _latents(count: int, dim: int, mean: float = 0.0) -> torch.Tensor:
    return mean + torch.randn(count, dim, generator=torch.Generator().manual_seed(int(mean)))


def test_without_a_mixture_the_noise_is_the_code() -> None:
    prior, noise = CodePrior(SHAPE).eval(), torch.randn(3, SHAPE.code_dim)
    assert prior.code(noise) is noise
    assert prior(noise).equal(prior.decoder(noise))


def test_with_a_mixture_codes_are_drawn_from_it() -> None:
    prior = CodePrior(SHAPE).eval()
    prior.mixture = MixturePrior.fit(_latents(200, SHAPE.code_dim, 3.0), 200, 0)
    noise = torch.randn(5, SHAPE.code_dim + 1)
    assert prior(noise).equal(prior.decoder(prior.mixture(noise)))


def test_one_noise_is_another_map_by_another_label() -> None:
    prior, noise = CodePrior(MapArchitecture.of("tiny", 32, 3, 2)).eval(), torch.randn(1, SHAPE.code_dim)
    first, second = prior(noise.repeat(2, 1), torch.tensor([0, 1]))
    assert not torch.allclose(first, second, atol=1e-2)


def test_a_mixture_of_labels_draws_each_from_its_own() -> None:
    latents = torch.cat([_latents(300, 4, 0.0), _latents(80, 4, 50.0)])
    label = torch.tensor([0] * 300 + [1] * 80)
    mixture = LabelledMixturePrior.fit(latents, label, 380, 2, 0)
    noise = torch.randn(64, 5)
    for number, mean in ((0, 0.0), (1, 50.0)):
        drawn = mixture(noise, torch.full((64,), number))
        torch.testing.assert_close(drawn, mixture.of_labels[number](noise))
        assert (drawn.mean() - mean).abs() < 1


def test_labels_of_fewer_pictures_have_fewer_components_that_are_drawn() -> None:
    latents = torch.cat([_latents(400, 4), _latents(2, 4, 9.0)])
    mixture = LabelledMixturePrior.fit(latents, torch.tensor([0] * 400 + [1] * 2), 400, 3, 0)
    assert mixture.components == 11
    wide = mixture(torch.randn(100, 5) * 3, torch.ones(100, dtype=torch.int64))
    assert wide.isfinite().all()
    assert mixture(torch.randn(10, 5), torch.full((10,), 2)).isfinite().all()  # a label without pictures


def test_a_widened_mixture_draws_the_same() -> None:
    mixture, noise = MixturePrior.fit(_latents(200, 3), 200, 0), torch.randn(500, 4)
    assert mixture.widened(mixture.components + 7)(noise).equal(mixture(noise))
