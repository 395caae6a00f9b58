"""A folder that is no run, no finished run, or a run of another version: each is told in words, whoever is given it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.entry import read_entry
from export.source import from_run
from training.errors import RunFolderError, Stopped
from training.outcome import read_run
from training.record import read_record
from training.settings import TrainSettings
from training.trainer import resume, train

READERS: list[Callable[[Path], object]] = [resume, from_run, read_entry]
"""All that is done with a run folder."""

STEPS = 4


@pytest.fixture(scope="module")
def began(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after two of its steps."""
    run = tmp_path_factory.mktemp("began") / "run"
    asked = iter([False, True])
    settings = {"data": "digits", "family": "gan", "size": 8, "latent_dim": 4, "images": 1000 * STEPS, "batch": 1000}
    told = f"^stopped after 2,000 of 4,000 images; to continue: figment resume {run}; to take it as it is: figment export {run}$"
    with pytest.raises(Stopped, match=told):
        train(TrainSettings.model_validate(settings | {"out": run, "device": "cpu"}), is_stopped=lambda: next(asked))
    return run


@pytest.mark.parametrize("reader", READERS)
def test_an_unfinished_run_without_a_checkpoint_tells_what_can_be_done(
    reader: Callable[[Path], object], began: Path, tmp_path: Path
) -> None:
    shutil.copy(began / "run.json", tmp_path)
    with pytest.raises(RunFolderError, match=r"no checkpoint\.safetensors to continue from, .* here 50,000"):
        reader(tmp_path)


def _changed(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda record: record | changes


def _settings(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda record: record | {"settings": record["settings"] | changes}


def _without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda record: (
        record | {"settings": {key: record["settings"][key] for key in record["settings"] if key != name}}
    )


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_settings(colour="red"), r"settings\.colour: is not known here; another version wrote it"),
        (_settings(images="many"), r"settings\.images: got 'many': Input should be a valid integer"),
        (_settings(family="flow"), r"settings\.family: got 'flow': Input should be 'vae', 'gan' or 'hybrid'"),
        (_settings(likelihood="bernoulli"), r"settings: got .*: Value error, likelihood: got bernoulli"),
        (_without("data"), r"settings\.data: is missing"),
        (_changed(settings=None), r"settings: got 'None': Input should be an object"),
        (_changed(data={"images": 3}), r"data\.held_out: is missing; data\.sha256: is missing"),
        (lambda record: [record], "all of it: got "),
        (lambda record: "", "all of it: got ''"),
    ],
)
def test_a_record_of_another_version_or_changed_by_hand_is_told_by_the_field(
    change: Callable[[dict[str, Any]], object],
    message: str,
    reader: Callable[[Path], object],
    began: Path,
    tmp_path: Path,
) -> None:
    record = json.loads((began / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(change(record)))
    with pytest.raises(RunFolderError, match=rf"run\.json is no record that this version of Figment reads: {message}"):
        reader(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_record_that_is_no_json_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunFolderError, match=r"run\.json is not JSON: "):
        read_record(tmp_path)


def test_what_is_no_run_is_told_by_what_it_is(runs: Path, models: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd" / "run.json").mkdir(parents=True)
    for folder, message in {
        tmp_path / "nowhere": "there is no such folder",
        tmp_path / "file": "it is a file",
        tmp_path / "empty": r"run\.json is missing",
        tmp_path / "odd": r"run\.json cannot be read: Is a directory",
        runs: "holds some: gan, hybrid, labelled-gan, labelled-vae, vae",
        models / "vae": "a published model",
        models / "vae" / "1": "a published model",
    }.items():
        for reader in (resume, from_run):
            with pytest.raises(RunFolderError, match=message):
                reader(folder)


def test_a_finished_run_is_read_whole(runs: Path) -> None:
    found = read_run(runs / "labelled-vae")
    model, record = found.model, found.record
    assert (found.images, found.so_far, found.note) == (2_000, "", "")
    assert (model.family, record.settings.family, len(model.label_names)) == ("vae", "vae", 10)
    assert (record.data.images, record.data.held_out) == (1438, 359)
    assert "torch" in record.versions
