"""What one step does: the gradients of E, G and D by the objective's formulas, and what a step leaves alone."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from training.adversarial import ADVERSARIAL
from training.architecture import Architecture
from training.augment import Augmentation
from training.batch import Batch
from training.errors import TrainingError
from training.families import FamilyName, vae
from training.families.gan import _laid_out
from training.families.hybrid import ADVERSARIAL_SHARE
from training.learner import Learner, _is_bf16
from training.likelihood import gaussian_nll, optimal_variance
from training.model import ModelFacts
from training.objective import gradient_penalties, kl_divergence
from training.parallel import ALONE
from training.prior import MixturePrior
from training.schedule import Phase
from training.settings import TrainSettings

CPU = torch.device("cpu")
N, Z = 8, 4


def _settings(family: FamilyName, **changes: Any) -> TrainSettings:
    chosen = {"data": "digits", "out": Path("run"), "latent_dim": Z, "images": 800, "batch": N, "device": "cpu"}
    chosen["adversarial"] = "relativistic"
    return TrainSettings.model_validate(chosen | {"family": family} | changes)


def _learner(family: FamilyName, channels: int = 1, blocks: int = 0, **changes: Any) -> Learner:
    settings = _settings(family, **changes)
    is_plain = settings.adversarial == "plain"
    architecture = Architecture(16, channels, Z, 4, 0, blocks, is_plain)
    learner = Learner(settings, ModelFacts(family, architecture, [], 0, settings.likelihood), CPU, ALONE)
    if family == "hybrid":
        learner.freeze_encoder(None)
    return learner


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _batch(channels: int = 1) -> Batch:
    real = torch.tanh(_normal(N, channels, 16, 16, seed=1)).contiguous(memory_format=torch.channels_last)
    return Batch(real, None, _normal(N, Z, seed=2), _normal(N, Z, seed=3), None, None)


def _gradients(network: nn.Module) -> list[Tensor]:
    return [weight.grad for weight in network.parameters() if weight.grad is not None]


@pytest.mark.parametrize("factor", [1.0, 1e9])
def test_a_gradient_that_runs_away_is_cut_and_no_other(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae, "kl_divergence", lambda mean, log: factor * kl_divergence(mean, log))
    learner = _learner("vae")
    learner.learn(_batch(), Phase(False, 1.0))
    norm = torch.stack([each.norm() for each in _gradients(learner.model)]).norm().item()
    if factor > 1:
        assert norm == pytest.approx(vae.MAX_GRADIENT, rel=1e-4)
    else:
        assert norm < vae.MAX_GRADIENT / 5


def _formula(loss: Tensor, network: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(network.parameters()), retain_graph=True))


def test_a_vae_descends_the_likelihood_and_so_much_of_the_kl_divergence_as_its_phase_says() -> None:
    learner, batch = _learner("vae"), _batch()
    before = deepcopy(learner.model)
    learner.learn(batch, Phase(False, 0.03))

    assert before.encoder is not None
    mean, log_variance = before.encoder(batch.real)
    rebuilt = before.generator(mean + batch.posterior_noise * (log_variance / 2).exp())
    nll = gaussian_nll(batch.real, rebuilt, optimal_variance(batch.real, rebuilt)).mean()
    expected = _formula(nll + 0.3 * kl_divergence(mean, log_variance).mean(), before)
    torch.testing.assert_close(_gradients(learner.model), expected)


def test_a_discriminator_descends_the_pairing_loss_and_both_penalties() -> None:
    learner, batch = _learner("gan", gamma=2.0, final_gamma=0.5), _batch()
    discriminator = deepcopy(learner.discriminator)
    assert discriminator is not None
    both = torch.cat([batch.real, learner.model.generator(batch.prior_noise).detach()]).requires_grad_()
    learner.learn(batch, Phase(True, 0.5))

    logits = discriminator(both)
    r1, r2 = gradient_penalties(both, logits)
    loss = ADVERSARIAL["relativistic"].of_discriminator(*logits.chunk(2)) + 1.25 * (r1 + r2)
    assert learner.discriminator is not None
    torch.testing.assert_close(_gradients(learner.discriminator), _formula(loss, discriminator))


def test_the_baselines_batch_norms_see_real_and_generated_images_apart() -> None:
    learner, batch = _learner("gan", adversarial="plain"), _batch()
    discriminator = deepcopy(learner.discriminator)
    assert discriminator is not None
    fake = learner.model.generator(batch.prior_noise).detach()
    learner.learn(batch, Phase(True, 0.0))
    loss = ADVERSARIAL["plain"].of_discriminator(discriminator(batch.real), discriminator(fake))
    assert learner.discriminator is not None
    torch.testing.assert_close(_gradients(learner.discriminator), _formula(loss, discriminator))


def test_a_gans_generator_descends_what_the_discriminator_that_just_learned_says() -> None:
    learner, batch = _learner("gan"), _batch()
    generator = deepcopy(learner.model.generator)
    learner.learn(batch, Phase(True, 0.0))
    assert learner.discriminator is not None
    logits = learner.discriminator(batch.real), learner.discriminator(generator(batch.prior_noise))
    torch.testing.assert_close(
        _gradients(learner.model.generator), _formula(ADVERSARIAL["relativistic"].of_generator(*logits), generator)
    )


@pytest.mark.parametrize("perceptual", [0.0, 2.0])
def test_a_hybrids_generator_is_pulled_by_the_discriminator_in_proportion_to_the_likelihood(perceptual: float) -> None:
    """Weight by weight: the reconstruction's gradient, and the adversarial one at ADVERSARIAL_SHARE times its norm."""
    learner, batch = _learner("hybrid", perceptual=perceptual), _batch()
    before = deepcopy(learner.model)
    learner.learn(batch, Phase(True, 0.0))

    assert before.encoder is not None
    assert learner.discriminator is not None
    latents = batch.prior_noise.clone()
    mean, log_variance = before.encoder(batch.real)
    latents[::2] = (mean + batch.posterior_noise * (log_variance / 2).exp()).detach()[::2]
    fake = before.generator(latents)
    originals, rebuilt = batch.real[::2], fake[::2]
    loss = gaussian_nll(originals, rebuilt, optimal_variance(originals, rebuilt)).mean()
    loss = loss + perceptual * learner.discriminator.distance(originals, rebuilt)
    rebuilding = _formula(loss, before.generator)
    logits = learner.discriminator(batch.real), learner.discriminator(fake)
    pulling = _formula(ADVERSARIAL["relativistic"].of_generator(*logits), before.generator)
    for found, wanted, pull in zip(_gradients(learner.model.generator), rebuilding, pulling, strict=True):
        share = ADVERSARIAL_SHARE * wanted.norm() / pull.norm()
        torch.testing.assert_close(found, wanted + share * pull, rtol=1e-3, atol=1e-3 * wanted.abs().max().item())


def test_a_hybrids_second_phase_leaves_its_encoder_and_prior_as_they_are() -> None:
    learner, batch = _learner("hybrid"), _batch()
    prior = MixturePrior.fit(_normal(100, Z, seed=0), images=100, seed=0)
    learner.freeze_encoder(prior)
    before = deepcopy(learner.model)
    batch = Batch(batch.real, None, batch.posterior_noise, _normal(N, Z + 1, seed=3), None, None)
    learner.learn(batch, Phase(True, 0.0))
    changed = {
        name.partition(".")[0]
        for name, weight in learner.model.state_dict().items()
        if not torch.equal(weight, before.state_dict()[name])
    }
    assert changed == {"generator", "variance"}
    assert learner.ema.prior is not None
    assert torch.equal(learner.ema.prior.means, prior.means)


def test_a_second_phase_goes_on_from_the_averaged_weights() -> None:
    learner = _learner("vae")
    for _ in range(3):
        learner.learn(_batch(), Phase(False, 0.5))
    assert not torch.equal(learner.model.generator.inp.weight, learner.ema.generator.inp.weight)
    learner.freeze_encoder(None)
    assert torch.equal(learner.model.generator.inp.weight, learner.ema.generator.inp.weight)


@pytest.mark.parametrize(("family", "is_adversarial"), [("vae", False), ("gan", True), ("hybrid", True)])
def test_whoever_keeps_losses_keeps_no_graph(family: FamilyName, is_adversarial: bool) -> None:
    losses = _learner(family).learn(_batch(), Phase(is_adversarial, 0.5))
    assert losses
    assert all(loss.grad_fn is None and loss.dim() == 0 for loss in losses.values())


def test_a_step_leaves_its_batch_as_it_was() -> None:
    batch, same = _batch(), _batch()
    _learner("hybrid").learn(batch, Phase(True, 0.0))
    assert torch.equal(batch.prior_noise, same.prior_noise)
    assert torch.equal(batch.real, same.real)


def test_the_discriminator_sees_augmented_images_and_the_likelihood_the_originals() -> None:
    batch = _batch()
    draw = torch.Generator().manual_seed(0)
    augmented = Batch(
        *(batch.real, None, batch.posterior_noise, batch.prior_noise),
        *(Augmentation.draw(N, 16, draw) for _ in range(2)),
    )
    phase = Phase(True, 0.0)
    plain, changed = _learner("hybrid").learn(batch, phase), _learner("hybrid").learn(augmented, phase)
    assert plain["reconstruction"] == changed["reconstruction"]
    assert all(plain[name] != changed[name] for name in ("d_adversarial", "r1", "r2", "g_adversarial"))


def test_the_average_has_a_half_life_of_a_twentieth_of_the_images_seen_at_most() -> None:
    learner = _learner("gan", ema_images=5)
    weight, average = learner.model.generator.inp.weight, learner.ema.generator.inp.weight
    for images, half_life in ((8, 1.0), (16, 1.0), (24, 1.2)):
        before = average.clone()
        learner.learn(_batch(), Phase(True, 0.0))
        assert learner.images == images
        decay = 0.5 ** (N / half_life)
        torch.testing.assert_close(average, decay * before + (1 - decay) * weight.detach())
    learner.images = 10_000
    before = average.clone()
    learner.learn(_batch(), Phase(True, 0.0))
    torch.testing.assert_close(average, 0.5 ** (N / 5) * before + (1 - 0.5 ** (N / 5)) * weight.detach())


def test_the_learning_rate_is_the_phases_share_of_the_setting() -> None:
    learner = _learner("gan", learning_rate=0.5)
    learner.learn(_batch(), Phase(True, 0.5))
    optimisers = [optimiser for _, optimiser in learner._optimisers().items()]
    assert [optimiser.param_groups[0]["lr"] for optimiser in optimisers] == [pytest.approx(0.275)] * 2
    assert [optimiser.param_groups[0]["betas"] for optimiser in optimisers] == [(0.0, 0.99)] * 2


def test_a_gradient_of_another_layout_is_laid_out_as_its_weight() -> None:
    """Fused Adam on a CPU reads rows of numbers: with the layouts apart it would move the wrong weights."""
    weight = nn.Parameter(torch.zeros(4, 3, 2, 2).to(memory_format=torch.channels_last))
    gradient = _normal(4, 3, 2, 2, seed=0)
    weight.grad = _laid_out(gradient, weight)
    assert weight.grad.stride() == weight.stride() != gradient.stride()
    torch.optim.Adam([weight], lr=1.0, betas=(0.0, 0.99), fused=True).step()
    assert torch.equal(weight.sign(), -gradient.sign())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("blocks", [0, 1])
def test_the_gradients_of_a_generator_come_laid_out_as_its_weights(channels: int, blocks: int) -> None:
    learner = _learner("hybrid", channels, blocks)
    learner.learn(_batch(channels), Phase(True, 0.0))
    for weight in learner.model.generator.parameters():
        assert weight.grad is not None
        assert weight.grad.stride() == weight.stride()


def test_half_precision_on_a_gpu_that_has_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla P4")
    gpu = torch.device("cuda")
    with pytest.raises(TrainingError, match="Tesla P4 has none; allowed: fp32"):
        _is_bf16(_settings("gan", precision="bf16"), gpu)
    assert not _is_bf16(_settings("gan"), gpu)


def test_precision_by_default_is_half_on_a_gpu_that_has_it_and_single_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert _is_bf16(_settings("gan"), torch.device("cuda"))
    assert not _is_bf16(_settings("gan"), CPU)
    assert _is_bf16(_settings("gan", precision="bf16"), CPU)
    assert not _is_bf16(_settings("gan", precision="fp32"), torch.device("cuda"))
