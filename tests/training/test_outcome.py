"""Runs that are not finished: the model that each has come to can be had, and the run goes on as if nobody had looked."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from export.bundle import read_manifest
from export.command import Export
from export.entry import read_entry
from export.evaluation import EvaluationSettings, evaluate
from export.publish import publish
from export.source import from_run
from figment.cli.command import main
from tests.fakes.colours import colour_folder
from training import checkpoint
from training.errors import RunFolderError, Stopped
from training.model import Model
from training.outcome import read_run
from training.run import Run
from training.settings import TrainSettings
from training.trainer import resume, train

pytestmark = pytest.mark.slow

IMAGES = 160
"""Of batches of 16: a hybrid's second phase begins at step 7."""

KINDS: dict[str, dict[str, Any]] = {
    "vae": {"family": "vae", "likelihood": "bernoulli", "prior": "normal"},
    "gan": {"family": "gan", "conditional": True},
    "hybrid": {"family": "hybrid"},
}


def _settings(out: Path, **changes: Any) -> TrainSettings:
    chosen = {"data": "digits", "size": 8, "latent_dim": 4, "images": IMAGES, "batch": 16, "device": "cpu"}
    return TrainSettings.model_validate({"out": out, "sheet_every": 10_000, **chosen, **changes})


def _after(steps: int) -> Callable[[], bool]:
    asked = iter(range(1, 10_000))
    return lambda: next(asked) == steps


def _stopped(run: Path, steps: int, **changes: Any) -> Path:
    with pytest.raises(Stopped):
        train(_settings(run, **changes), is_stopped=_after(steps))
    return run


def _cut_off_before_its_model(run: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Model:
    """A run that had its last step and a checkpoint after it. Returns the model that it would have written."""
    kept = list[Model]()

    def cut_off(self: Run, images: int, model: Model, best: object) -> None:
        kept.append(model)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "finish", cut_off)
    with pytest.raises(KeyboardInterrupt):
        train(_settings(run, checkpoint_every=IMAGES, **changes))
    monkeypatch.undo()
    return kept[0]


def _assert_close(one: Model, two: Model) -> None:
    ours, theirs = one.state_dict(), two.state_dict()
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_gives_the_model_that_its_training_would_have_given(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = _cut_off_before_its_model(tmp_path / "run", monkeypatch, **KINDS[kind])
    found = read_run(tmp_path / "run")
    _assert_close(found.model, wanted)
    assert not found.model.training
    assert found.images == IMAGES


def test_of_a_run_that_keeps_the_best_model_it_is_that_one(tmp_path: Path) -> None:
    stopped = _stopped(tmp_path / "run", 8, family="gan", keep_best=True, sheet_every=48)
    state = checkpoint.load(stopped)
    best, average = checkpoint.part(state, "best/weights"), checkpoint.part(state, "average")

    found = read_run(stopped).model.state_dict()

    assert all(torch.equal(found[name], best[name]) for name in best)
    assert any(not torch.equal(best[name], average[name]) for name in best)


def test_maps_of_a_checkpoint_are_calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"data": str(colour_folder(tmp_path / "pictures")), "size": 16, "family": "vae", "latent_dim": 16}
    wanted = _cut_off_before_its_model(tmp_path / "run", monkeypatch, **data)
    _assert_close(read_run(tmp_path / "run").model, wanted)


@pytest.mark.parametrize("steps", [1, 6, 9])
def test_a_stopped_run_is_exported_with_how_far_it_is_and_goes_on_as_it_would(
    steps: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped in its first step, before its prior is fitted, and after."""
    run = _stopped(tmp_path / "run", steps, family="hybrid")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    models = tmp_path / "models"
    assert main(["export", str(run), f"--models={models}"], lambda verb: SimpleNamespace(load=lambda: Export)) == 0
    told = f"{run} is unfinished: {16 * steps} of {IMAGES} images; to continue: figment resume {run}\n"
    assert capsys.readouterr().out.startswith(told)
    manifest = read_manifest(models / "run" / "1")
    assert manifest.provenance.images == 16 * steps
    assert manifest.graphs.keys() >= {"generator.onnx", "prior.onnx", "encoder.onnx"}
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before

    resume(run)
    train(_settings(tmp_path / "whole", family="hybrid"))
    weights = [(folder / "weights.safetensors").read_bytes() for folder in (run, tmp_path / "whole")]
    assert weights[0] == weights[1]


def test_a_stopped_run_is_evaluated_and_the_report_tells_how_far_it_is(tmp_path: Path) -> None:
    run, told = _stopped(tmp_path / "run", 3, family="vae"), list[str]()
    assert read_entry(run).stability == f"finite over 48 of {IMAGES} images"
    _, page = evaluate(run, tmp_path / "report", EvaluationSettings(images=64), told.append)
    assert told == [f"{run} is unfinished: 48 of {IMAGES} images; to continue: figment resume {run}"]
    assert f"finite over 48 of {IMAGES} images" in page.read_text()
    published = publish(from_run(run), tmp_path / "models", "digits").folder
    assert read_entry(published).stability == "finite over 48 images"


def test_a_run_by_the_clock_tells_its_time(tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = _settings(run, family="gan").model_dump(exclude={"images"})
    by_the_clock = TrainSettings.model_validate(settings | {"minutes": 100})
    with pytest.raises(Stopped):
        train(by_the_clock, is_stopped=_after(2))
    assert read_run(run).so_far == "0.0 of 100 minutes, 32 images"


@pytest.mark.parametrize("change", ["gone", "another"])
def test_a_checkpoint_whose_images_are_not_there_gives_no_model(change: str, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(20):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(pictures / f"{number:02d}.png")
    run = _stopped(tmp_path / "run", 2, family="vae", data=str(pictures))
    if change == "gone":
        pictures.rename(tmp_path / "moved")
    else:
        (pictures / "00.png").unlink()
    wanted = {"gone": "is unfinished, and no model can be made of its checkpoint: ", "another": "has changed since"}
    with pytest.raises(RunFolderError, match=wanted[change]):
        read_run(run)


def test_a_checkpoint_with_weights_that_are_no_numbers_gives_no_model(tmp_path: Path) -> None:
    run = _stopped(tmp_path / "run", 2, family="gan")
    state = checkpoint.load(run)
    name = next(each for each in state if each.startswith("average/generator"))
    state[name].fill_(torch.nan)
    checkpoint.save(state, run)
    with pytest.raises(RunFolderError, match=r"step 1: generator\.\S+ is not finite after it: the training diverged"):
        read_run(run)


def test_a_checkpoint_of_other_networks_gives_no_model(tmp_path: Path) -> None:
    run, other = _stopped(tmp_path / "run", 1, family="vae"), _stopped(tmp_path / "other", 1, family="gan")
    (other / checkpoint.FILE).replace(run / checkpoint.FILE)
    with pytest.raises(RunFolderError, match="the checkpoint is of other networks"):
        read_run(run)
