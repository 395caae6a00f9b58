"""D on frozen features: what is learned, what is not, and a step against it."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evaluation.efficientnet import network, packaged_weights
from training.architecture import MapArchitecture
from training.augment import Augmentation
from training.batch import Batch
from training.code_prior import CodePrior
from training.families import FamilyName
from training.feature_discriminator import FeatureDiscriminator
from training.feature_opponents import RATE, UPDATE, _distance
from training.learner import Learner
from training.model import ModelFacts
from training.parallel import ALONE
from training.schedule import Phase
from training.settings import TrainSettings

pytestmark = pytest.mark.slow

SIZE, N = 32, UPDATE


def _discriminator(labels: int = 0, channels: int = 3, size: int = SIZE) -> FeatureDiscriminator:
    file = packaged_weights()
    assert file is not None, "the development extra brings the weights"
    return FeatureDiscriminator(network(file), size, channels, labels)


def _images(count: int = N, channels: int = 3, size: int = SIZE) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.tanh(torch.randn(count, channels, size, size, generator=draw))


@pytest.mark.parametrize(("size", "resolution"), [(16, 64), (64, 64), (96, 128), (256, 128)])
def test_pictures_of_any_size_are_judged_at_six_scales(size: int, resolution: int) -> None:
    discriminator = _discriminator(size=size)
    logits = discriminator(_images(2, size=size))
    assert [tuple(each.shape) for each in logits[:4]] == [
        (2, side, side) for side in (resolution // 8, resolution // 16, resolution // 32, max(2, resolution // 64))
    ]
    assert [tuple(each.shape) for each in logits[4:]] == [(2, size // 8, size // 8), (2, 4, 4)]


def test_grey_pictures_are_seen_as_colour_ones() -> None:
    assert len(_discriminator(channels=1)(_images(2, 1))) == 6


def test_only_heads_learn() -> None:
    discriminator = _discriminator()
    learned = {name for name, weight in discriminator.named_parameters() if weight.requires_grad}
    assert learned
    assert all(name.startswith(("heads.scales.", "heads.pixels.", "heads.colours.")) for name in learned)


def test_labels_change_what_is_judged() -> None:
    discriminator = _discriminator(labels=2).eval()
    sight = discriminator.see(_images(2), _images(2))
    ones, zeros = torch.ones(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    for first, second in zip(discriminator.judge(sight, ones), discriminator.judge(sight, zeros), strict=True):
        assert not torch.equal(first, second)


def test_pictures_beside_others_are_judged_as_alone_and_teach_only_d() -> None:
    discriminator, images, others = _discriminator().eval(), _images(2).requires_grad_(), -_images(2)
    sight, other = discriminator.see(images, images), discriminator.see(others, others)
    both = sight.beside(other)
    alone = zip(discriminator.judge(sight), discriminator.judge(other), strict=True)
    for together, parts in zip(discriminator.judge(both), alone, strict=True):
        torch.testing.assert_close(together, torch.cat(parts))
    assert not any(each.requires_grad for each in (both.pixels, *both.mixed))


def test_a_distance_is_zero_to_itself_and_grows_with_noise() -> None:
    discriminator, images = _discriminator(), _images(4)
    maps = [discriminator.see(each, each).maps for each in (images, images + 0.1 * torch.randn_like(images), -images)]
    none, little, much = (float(_distance(maps[0], other)) for other in maps)
    assert none == pytest.approx(0, abs=1e-5)
    assert 0 < little < much


def _learner(family: FamilyName, labels: int = 0) -> Learner:
    names = [str(number) for number in range(labels)]
    settings = TrainSettings(
        data="x", family=family, out=Path("run"), batch=N, device="cpu", latent="map", adversarial="features",
        conditional=bool(labels),
    )  # fmt: skip
    shape = MapArchitecture.of("tiny", SIZE, 3, labels)
    learner = Learner(settings, ModelFacts(family, shape, names, 0), torch.device("cpu"), ALONE)
    if family == "hybrid":
        learner.freeze_encoder(None)
    return learner


def _batch(learner: Learner, count: int = N) -> Batch:
    draw = torch.Generator().manual_seed(1)
    noise = [torch.randn(count, dim, generator=draw) for dim in (learner.model.latent_dim, learner.model.noise_dim)]
    changes = [Augmentation.draw(count, SIZE, draw, 0.5, True) for _ in range(2)]
    label = torch.arange(count) % 2 if learner.model.label_names else None
    return Batch(_images(count), label, *noise, *changes)


def test_a_hybrids_second_phase_teaches_both_entries_and_leaves_what_encodes() -> None:
    learner = _learner("hybrid")
    before = deepcopy(learner.model)
    losses = learner.learn(_batch(learner), Phase(True, 0.5))
    assert set(losses) == {"d_adversarial", "g_adversarial", "pixels", "code_pixels", "colours", "features"}
    assert all(value.isfinite() for value in losses.values())
    assert isinstance(before.prior, CodePrior)
    assert before.encoder is not None
    after = dict(learner.model.named_parameters())
    changed = {name for name, weight in before.named_parameters() if not weight.equal(after[name])}
    drawing = {name for name, _ in before.named_parameters() if name.startswith(("generator.", "prior.decoder."))}
    assert changed == drawing
    for part in ("encoder", "prior.encoder"):
        now, then = learner.model.get_submodule(part), before.get_submodule(part)
        assert all(a.equal(b) for a, b in zip(now.buffers(), then.buffers(), strict=True))


def test_a_gans_generator_learns_by_its_label() -> None:
    learner = _learner("gan", labels=2)
    before = deepcopy(learner.model)
    losses = learner.learn(_batch(learner), Phase(True, 0.5))
    assert set(losses) == {"d_adversarial", "g_adversarial"}
    after = dict(learner.model.named_parameters())
    assert all(not weight.equal(after[name]) for name, weight in before.named_parameters())


def test_a_step_makes_an_update_of_every_few_images() -> None:
    learner = _learner("gan")
    learner.learn(_batch(learner, 2 * UPDATE + 4), Phase(True, 0.5))
    assert {int(state["step"]) for state in learner.g_optimiser.state.values()} == {3}


def test_the_rates_of_both_follow_the_setting_and_g_begins_at_none() -> None:
    learner = _learner("gan")
    learner.settings = learner.settings.model_copy(update={"learning_rate": 1e-4})
    learner.learn(_batch(learner), Phase(True, 0.0))
    assert learner.d_optimiser is not None
    rates = [optimiser.param_groups[0]["lr"] for optimiser in (learner.g_optimiser, learner.d_optimiser)]
    assert rates == [0, pytest.approx(RATE * 1e-4)]


def test_what_is_saved_of_d_are_its_heads() -> None:
    learner = _learner("gan")
    names = {name for name in learner.state() if name.startswith("discriminator/")}
    assert names
    assert not any("network" in name for name in names)
