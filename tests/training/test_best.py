"""`--keep-best`: of the models at the sheets, the one nearest to half of the held-out images is what a training leaves."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from figment.cli.command import Entry, main
from training import best
from training.architecture import Architecture
from training.batch import Batch
from training.best import BestModel
from training.command import Train
from training.data import ImageSet
from training.errors import Stopped, TrainingError
from training.learner import Learner
from training.model import Model, ModelFacts
from training.record import read_record
from training.schedule import Phase
from training.settings import TrainSettings
from training.trainer import resume, train

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best, "DRAWN", 100)
    monkeypatch.setattr(best, "MOST_SEEN", 256)


def _images(channels: int = 1, labels: int = 0, count: int = 40) -> ImageSet:
    draw = np.random.default_rng(count)
    of_class = np.arange(count) % labels if labels else None
    names = [str(label) for label in range(labels)]
    return ImageSet(draw.integers(0, 256, (count, 8, 8, channels), np.uint8), of_class, names)


def _models() -> tuple[Model, Model]:
    """One that draws noise, and one that draws grey, whose noise goes through a mixture."""
    torch.manual_seed(0)
    noisy, grey = (
        Model(ModelFacts("vae", Architecture(8, 1, 4, 8, 0, 0), [], components)).eval() for components in (0, 3)
    )
    with torch.no_grad():
        for weight in grey.generator.parameters():
            weight.zero_()
        for weight in noisy.generator.parameters():
            weight.mul_(2)
    return noisy, grey


def test_the_nearest_model_is_kept_whichever_comes_first() -> None:
    for order in (slice(None), slice(None, None, -1)):
        found = BestModel(_images(), _images(count=60), seed=0)
        distances = [found.judge(model, number, CPU)["distance"] for number, model in enumerate(_models()[order])]
        assert found.kept is not None
        assert found.kept.images == int(np.argmin(distances))
        assert found.kept.distance == min(distances)
        assert distances[0] != distances[1]


def test_the_account_goes_on_from_its_state() -> None:
    images, held_out = _images(), _images(count=60)
    before, after = (BestModel(images, held_out, seed=0) for _ in range(2))
    after.load(before.state(), _models()[0])
    assert after.kept is None
    noisy, grey = _models()
    before.judge(grey, 7, CPU)
    after.load(before.state(), noisy)
    assert after.kept == before.kept
    assert after.model is not None
    assert after.model.facts == grey.facts
    assert all(torch.equal(value, after.model.state_dict()[name]) for name, value in grey.state_dict().items())
    assert after.judge(noisy, 8, CPU) == before.judge(noisy, 8, CPU)


@pytest.mark.parametrize(
    ("channels", "labels", "name"), [(3, 2, "effnet_lite0"), (1, 2, "classifier"), (1, 0, "random")]
)
def test_who_judges_depends_on_the_images(channels: int, labels: int, name: str) -> None:
    assert best._features(_images(channels, labels)).name == name


def _settings(out: Path, **changes: object) -> TrainSettings:
    chosen = {"data": "digits", "family": "vae", "size": 8, "latent_dim": 4, "images": 320, "batch": 16}
    rest = {"sheet_every": 100, "device": "cpu", "keep_best": True}
    return TrainSettings.model_validate({"out": out, **chosen, **rest, **changes})


def _spoilt_from(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a step on, all that is learned is lost."""
    learn = Learner.learn

    def learn_or_lose(learner: Learner, batch: Batch, phase: Phase) -> dict[str, torch.Tensor]:
        losses = learn(learner, batch, phase)
        if learner.images // 16 >= step:
            for weight in [*learner.model.generator.parameters(), *learner.ema.generator.parameters()]:
                nn.init.zeros_(weight)
        return losses

    monkeypatch.setattr(Learner, "learn", learn_or_lose)


def _stats(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_s"} for line in lines]


def test_a_training_ends_with_its_best_model_stopped_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheets come after steps 7 and 13; from step 15 on it draws grey."""
    _spoilt_from(15, monkeypatch)
    model = train(_settings(tmp_path / "run"))
    judged = {line["images"]: line for line in _stats(tmp_path / "run") if "distance" in line}
    assert list(judged) == [112, 208, 304, 320]
    kept = read_record(tmp_path / "run").kept
    assert kept is not None
    assert kept.images in (112, 208)
    assert kept.distance == min(line["distance"] for line in judged.values()) == judged[kept.images]["distance"]
    assert kept.of_other_half == judged[kept.images]["distance_of_other_half"]
    assert kept.judged_by.startswith("classifier ")
    assert len(model.generate(torch.randn(2, model.noise_dim)).unique(dim=0)) == 2

    stopped, asked = tmp_path / "stopped", iter(range(1, 100))
    with pytest.raises(Stopped):
        train(_settings(stopped), is_stopped=lambda: next(asked) == 14)
    resume(stopped)
    for name in ("weights.safetensors", "model.json", "samples-000000320.png"):
        assert (stopped / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    assert _stats(stopped) == _stats(tmp_path / "run")
    assert read_record(stopped).kept == kept


def test_too_few_held_out_images_are_told_before_the_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"^keep_best: held_out: got 2 pictures, two halves need at least 4"):
        train(_settings(tmp_path / "run", held_out=0.001))
    assert not (tmp_path / "run").exists()


def _find(verb: str) -> Entry:
    return SimpleNamespace(load=lambda: Train)


def test_the_command_says_which_model_it_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    common = [
        "--data=digits",
        "--size=8",
        "--family=gan",
        "--images=32",
        "--batch=16",
        "--sheet-every=16",
        "--device=cpu",
    ]
    assert main(["train", *common, f"--out={run}", "--keep-best"], _find) == 0
    kept = read_record(run).kept
    assert kept is not None
    assert f"kept the model after {kept.images} images, distance {kept.distance:.5g} to" in capsys.readouterr().out
