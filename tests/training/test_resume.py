"""A training that was stopped anywhere and continued leaves what an uninterrupted one leaves, to the last bit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from training.errors import RunFolderError, Stopped
from training.record import images_shown
from training.settings import IMAGES, TrainSettings
from training.trainer import Progress, resume, train

pytestmark = pytest.mark.slow

STEPS = 30
"""Of 16 images each: a hybrid's second phase begins at step 21, reports come after steps 20, 21 and 30. Maps take 6, 4 of them
in the first phase."""

KINDS: dict[str, dict[str, Any]] = {
    "vae": {"family": "vae", "mirror": True},
    "gan": {"family": "gan", "diffaugment": True, "conditional": True},
    "plain": {"family": "gan", "adversarial": "plain"},
    "hybrid": {"family": "hybrid", "perceptual": 0.5, "images": 16 * STEPS - 5},
    "bernoulli": {"family": "hybrid", "likelihood": "bernoulli", "prior": "normal", "precision": "bf16"},
    "maps": {
        "family": "hybrid",
        "adversarial": "features",
        "size": 16,
        "latent_dim": 20,
        "conditional": True,
        "images": 16 * 6,
    },
}


def _settings(out: Path, **changes: Any) -> TrainSettings:
    chosen = {"data": "digits", "size": 8, "latent_dim": 4, "images": 16 * STEPS, "batch": 16, "device": "cpu"}
    return TrainSettings.model_validate({"out": out, "sheet_every": 100, **chosen, **changes})


def _after(steps: int) -> Callable[[], bool]:
    """What says stop after so many steps."""
    asked = iter(range(1, 10_000))
    return lambda: next(asked) == steps


def _left(run: Path) -> dict[str, object]:
    """All that a run left behind but its record and how fast it was."""
    left: dict[str, object] = {path.name: path.read_bytes() for path in run.iterdir() if path.name != "run.json"}
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    left["stats.jsonl"] = [{name: value for name, value in line.items() if name != "images_per_s"} for line in lines]
    return left


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    for name, settings in KINDS.items():
        train(_settings(folder / name, **settings))
    return folder


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A VAE that was stopped after three steps."""
    with pytest.raises(Stopped):
        train(_settings(tmp_path / "run", family="vae"), is_stopped=_after(3))
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        *[("vae", 1), ("vae", 20), ("gan", 7), ("plain", 8), ("bernoulli", 10), ("bernoulli", 25)],
        *[("hybrid", steps) for steps in (13, 20, 21, 22, STEPS - 1)],
        ("maps", 5),
    ],
)
def test_a_training_that_was_stopped_and_continued_leaves_what_one_that_was_not_leaves(
    kind: str, steps: int, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Stopped, match=f"stopped after {16 * steps} of .* images; to continue: figment resume {run}"):
        train(_settings(run, **KINDS[kind]), is_stopped=_after(steps))
    assert (run / "checkpoint.safetensors").is_file()
    resume(run)
    assert _left(run) == _left(uninterrupted / kind)


def test_a_training_may_be_stopped_again_and_again(uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Stopped):
        train(_settings(run, **KINDS["hybrid"]), is_stopped=_after(9))
    for _ in range(2):
        with pytest.raises(Stopped):
            resume(run, is_stopped=_after(9))
    resume(run, is_stopped=_after(9))
    assert _left(run) == _left(uninterrupted / "hybrid")


@pytest.mark.parametrize(("every", "next_report"), [(160, 336), (16, 336), (300, 320)])
def test_a_training_that_broke_off_goes_on_from_its_last_checkpoint(
    every: int, next_report: int, uninterrupted: Path, tmp_path: Path
) -> None:
    """It breaks off in the report after 336 images: what it wrote since the checkpoint is written again, once."""
    run, told = tmp_path / "run", list[int]()

    def break_off(progress: Progress) -> None:
        if progress.images == 336:
            raise MemoryError

    with pytest.raises(MemoryError):
        train(_settings(run, checkpoint_every=every, **KINDS["hybrid"]), break_off)
    with (run / "stats.jsonl").open("a") as file:
        file.write('{"images": 35')  # a line that was cut off
    resume(run, lambda progress: told.append(progress.images))
    assert told[0] == next_report
    assert _left(run) == _left(uninterrupted / "hybrid")


def test_a_training_that_is_told_to_stop_in_its_last_step_is_finished(uninterrupted: Path, tmp_path: Path) -> None:
    train(_settings(tmp_path / "run", **KINDS["hybrid"]), is_stopped=_after(STEPS))
    assert _left(tmp_path / "run") == _left(uninterrupted / "hybrid")


def test_a_finished_run_has_nothing_to_continue(uninterrupted: Path) -> None:
    before = _left(uninterrupted / "vae")
    with pytest.raises(RunFolderError, match="is a finished run: nothing is left to do"):
        resume(uninterrupted / "vae")
    assert _left(uninterrupted / "vae") == before


def test_a_folder_without_a_run_has_nothing_to_continue(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"is not a run: run\.json is missing"):
        resume(tmp_path)


def test_a_run_without_a_checkpoint_cannot_be_continued(stopped: Path) -> None:
    (stopped / "checkpoint.safetensors").unlink()
    with pytest.raises(RunFolderError, match=r"no checkpoint\.safetensors .*--checkpoint-every"):
        resume(stopped)


def test_a_broken_checkpoint_is_an_error_that_names_it(stopped: Path) -> None:
    file = stopped / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(RunFolderError, match=r"checkpoint\.safetensors cannot be read"):
        resume(stopped)


@pytest.mark.parametrize("changes", [{"family": "gan"}, {"family": "vae", "latent_dim": 5}])
def test_a_checkpoint_of_other_networks_is_refused(changes: dict[str, Any], stopped: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(_settings(tmp_path / "other", **changes), is_stopped=_after(3))
    (tmp_path / "other" / "checkpoint.safetensors").replace(stopped / "checkpoint.safetensors")
    with pytest.raises(RunFolderError, match="the checkpoint is of other networks"):
        resume(stopped)


@pytest.mark.parametrize("change", ["another picture", "one more"])
def test_changed_data_are_refused_and_the_run_stays_as_it_was(change: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(20):
        Image.new("L", (8, 8), number).save(tmp_path / "images" / f"{number:02d}.png")
    run = tmp_path / "run"
    with pytest.raises(Stopped):
        train(_settings(run, family="vae", data=str(tmp_path / "images")), is_stopped=_after(3))
    before = _left(run)

    Image.new("L", (8, 8), 99).save(tmp_path / "images" / ("07.png" if change == "another picture" else "20.png"))
    with pytest.raises(RunFolderError, match=r"data: .* has changed since .* was begun"):
        resume(run)
    assert _left(run) == before


def test_a_folder_with_an_unfinished_run_is_told_to_resume(stopped: Path) -> None:
    with pytest.raises(RunFolderError, match=r"holds a run already; .* figment resume continues it"):
        train(_settings(stopped, family="vae"))


def test_a_training_by_the_clock_goes_on_with_the_time_that_is_left(tmp_path: Path):
    settings = _settings(tmp_path / "run", family="hybrid", minutes=0.05, images=IMAGES)
    with pytest.raises(Stopped, match=r"of 0.05 minutes, [\d,]+ images; to continue"):
        train(settings, is_stopped=_after(20))
    seen: list[Progress] = []
    model = resume(tmp_path / "run", seen.append)
    assert model.mixture is not None
    assert seen[-1].images == seen[-1].total > 20 * 16
    assert images_shown(tmp_path / "run", settings) == seen[-1].images
