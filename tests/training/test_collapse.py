"""A G that draws one picture for every noise is noticed, sent back, and given up in the end."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from training import calibration, collapse
from training.architecture import MapArchitecture
from training.batch import Batch
from training.collapse import COLLAPSED, EARLY, HEALTHY, CollapseWatch, mean_distance
from training.data import ImageSet
from training.errors import Collapsed, Stopped
from training.families import FamilyName
from training.learner import Learner
from training.model import ModelFacts
from training.parallel import ALONE
from training.schedule import Phase
from training.settings import TrainSettings
from training.trainer import resume, train

pytestmark = pytest.mark.slow

SIZE = 16
STEPS = 8
"""Of 8 images each, a sheet after every other."""


def _settings(out: Path = Path("run"), **changes: object) -> TrainSettings:
    chosen = {"data": "digits", "size": SIZE, "adversarial": "features", "latent": "map", "family": "gan"}
    common = {"out": out, "batch": 8, "images": 8 * STEPS, "sheet_every": 16, "device": "cpu"}
    return TrainSettings.model_validate({**chosen, **common, **changes})


def _images(labels: int = 0, count: int = 200) -> ImageSet:
    draw = np.random.default_rng(0)
    of_class = np.arange(count) % labels if labels else None
    names = [str(label) for label in range(labels)]
    return ImageSet(draw.integers(0, 256, (count, SIZE, SIZE, 1), np.uint8), of_class, names)


def _watch(images: ImageSet, family: FamilyName = "gan") -> tuple[CollapseWatch, Learner]:
    shape = MapArchitecture.of("tiny", SIZE, 1, len(images.label_names))
    settings = _settings(conditional=bool(images.label_names), family=family)
    learner = Learner(settings, ModelFacts(family, shape, images.label_names, 0), torch.device("cpu"), ALONE)
    if family == "hybrid":
        learner.freeze_encoder(None)
    return CollapseWatch(learner, images), learner


class _Copier(nn.Module):
    """Draws training images one after another, or what is made of them."""

    def __init__(self, images: ImageSet, changed: Callable[[torch.Tensor], torch.Tensor] = torch.clone) -> None:
        super().__init__()
        self.register_buffer("variance", torch.ones(()))
        self.noise_dim, self._shown, self._pixels = 3, 0, changed(images.pixels())

    def generate(self, noise: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
        self._shown += len(noise)
        return self._pixels[self._shown - len(noise) : self._shown]


def test_the_spread_of_training_images_is_1_and_of_one_picture_0() -> None:
    images = _images()
    watch, learner = _watch(images)
    assert watch.spread(_Copier(images)) == pytest.approx(1)
    assert watch.spread(_Copier(images, lambda pixels: 0.1 * pixels)) == pytest.approx(0.1)
    _flatten(learner)
    assert watch.spread(learner.ema) == 0


def test_one_picture_of_each_class_is_a_collapse() -> None:
    images = _images(labels=10)
    watch, _ = _watch(images)
    of_class = torch.arange(200) % 10
    assert watch.spread(_Copier(images, lambda pixels: pixels[of_class])) == pytest.approx(0, abs=1e-6)
    assert mean_distance(images.pixels()[of_class]) > 0


@pytest.mark.parametrize("count", [1, 5])
def test_where_training_images_are_all_alike_there_is_no_collapse(count: int) -> None:
    images = ImageSet(np.zeros((count, SIZE, SIZE, 1), np.uint8), None, [])
    watch, learner = _watch(images)
    assert watch.spread(learner.ema) == 1


def test_a_generator_that_was_never_healthy_has_collapsed_only_after_its_beginning() -> None:
    watch, learner = _watch(_images())
    _flatten(learner)
    watch.begin(learner.ema)
    learner.images = EARLY - 1
    assert not watch.has_collapsed(0.0)
    learner.images = EARLY
    assert watch.has_collapsed(0.0)
    assert not watch.has_collapsed(COLLAPSED)


def test_a_generator_that_is_healthy_when_d_joins_may_collapse_at_once() -> None:
    images = _images()
    watch, _ = _watch(images)
    watch.begin(_Copier(images))
    assert watch.has_collapsed(0.0)


@pytest.mark.parametrize("family", ["gan", "hybrid"])
def test_a_generator_that_was_healthy_goes_back_to_the_state_that_was_at_half_the_rates(family: FamilyName) -> None:
    watch, learner = _watch(_images(), family)
    watch.begin(learner.ema)
    learner.images = 640
    assert not watch.has_collapsed(HEALTHY)
    kept = {name: value.clone() for name, value in learner.state().items()}
    with torch.no_grad():
        for weight in learner.model.parameters():
            weight.zero_()
    learner.images = 1280
    assert watch.has_collapsed(0.2)
    rate = learner.settings.learning_rate
    watch.go_back(0.2)
    assert learner.settings.learning_rate == rate / 2
    assert learner.images == 640
    assert all(torch.equal(value, kept[name]) for name, value in learner.state().items())


def _flatten(learner: Learner) -> None:
    """Have both generators draw one picture."""
    for model in (learner.model, learner.ema):
        last = [each for each in model.generator.modules() if isinstance(each, nn.Conv2d)][-1]
        nn.init.zeros_(last.weight)


def _collapsing_at(steps: set[int], monkeypatch: pytest.MonkeyPatch, only_at_full_rate: bool = True) -> None:
    """Make steps end in a collapse, unless rates were lowered; all limits are such that nothing else is one."""
    learn, full = Learner.learn, _settings().learning_rate

    def learn_or_collapse(learner: Learner, batch: Batch, phase: Phase) -> dict[str, torch.Tensor]:
        losses = learn(learner, batch, phase)
        if learner.images // 8 in steps and (learner.settings.learning_rate == full or not only_at_full_rate):
            _flatten(learner)
        return losses

    monkeypatch.setattr(Learner, "learn", learn_or_collapse)
    monkeypatch.setattr(collapse, "COLLAPSED", 1e-6)
    monkeypatch.setattr(collapse, "HEALTHY", 1e-6)
    monkeypatch.setattr(calibration, "LATENTS", 100)


def _stats(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_s"} for line in lines]


def _left(run: Path) -> dict[str, object]:
    files = {
        path.name: path.read_bytes() for path in run.iterdir() if path.suffix != ".json" and path.name != "stats.jsonl"
    }
    return files | {"stats": _stats(run)}


def test_a_training_that_collapses_goes_back_says_so_and_comes_to_its_end_stopped_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _collapsing_at({6}, monkeypatch)
    model = train(_settings(tmp_path / "run"))
    told = capsys.readouterr().err
    assert "after 48 images samples lie only 0.00 times as far from each other" in told
    assert "back to the state after 32 images, with half the learning rate (1 of at most 3 times)" in told
    looks = [line for line in _stats(tmp_path / "run") if "spread" in line]
    assert [line["images"] for line in looks] == [16, 32, 32, 48, 64]
    assert looks[2] == {"images": 32, "spread": 0, "collapsed_after": 48}
    assert all(line["spread"] > 0 for line in looks if "collapsed_after" not in line)
    assert len(model.generate(torch.randn(2, model.noise_dim)).unique(dim=0)) == 2

    for steps in (5, 6):
        asked = iter(range(1, 100))
        with pytest.raises(Stopped):
            train(_settings(tmp_path / str(steps)), is_stopped=lambda asked=asked, steps=steps: next(asked) == steps)
        resume(tmp_path / str(steps))
        assert _left(tmp_path / str(steps)) == _left(tmp_path / "run")


def test_a_collapse_in_the_last_step_is_none_of_the_model_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _collapsing_at({STEPS}, monkeypatch)
    model = train(_settings(tmp_path / "run"))
    assert "back to the state after 48 images" in capsys.readouterr().err
    assert len(model.generate(torch.randn(2, model.noise_dim)).unique(dim=0)) == 2


def test_a_training_that_collapses_again_and_again_is_given_up_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _collapsing_at({4}, monkeypatch, only_at_full_rate=False)
    with pytest.raises(Collapsed, match=r"after 32 images .* did not help 3 times; .* a lower --learning-rate, 0\.002"):
        train(_settings(tmp_path / "run"))
    assert not (tmp_path / "run" / "model.json").exists()
