"""`figment train` and `figment resume` from the command line: finished, interrupted and continued, refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from figment.cli.command import Entry, main
from training import progress
from training.command import Resume, Train, _interruptible
from training.model import Model
from training.trainer import Progress

pytestmark = pytest.mark.slow

TINY = ["--data=digits", "--size=8", "--latent-dim=4", "--batch=16", "--device=cpu"]

PROGRAM = """
import sys
from types import SimpleNamespace
from figment.cli.command import main
from training.command import Resume, Train

verbs = {"train": Train, "resume": Resume}
sys.exit(main(find=lambda verb: SimpleNamespace(load=lambda: verbs[verb])))
"""


def _find(verb: str) -> Entry:
    return SimpleNamespace(load=lambda: {"train": Train, "resume": Resume}[verb])


def _lines(run: Path) -> list[dict[str, float]]:
    file = run / "stats.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_train_says_where_the_run_is_and_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", "--family=gan", "--images=32", f"--out={run}", *TINY], _find) == 0
    assert capsys.readouterr().out == (
        f"{run}: trained; look at its sheets, then: figment export {run} --models models\n"
    )
    assert Model.load(run).family == "gan"


def test_settings_that_do_not_fit_together_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--family=vae", "--diffaugment", f"--out={tmp_path / 'run'}", *TINY], _find) == 2
    assert capsys.readouterr().err == (
        "figment train: diffaugment: a vae has no discriminator to show images to; allowed with gan, hybrid\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("family", ["vae", "gan", "hybrid"])
def test_a_dry_run_tells_what_a_training_costs_and_writes_nothing(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", f"--family={family}", f"--out={run}", "--images=3200", "--dry-run", *TINY], _find) == 0
    told = capsys.readouterr().out
    assert "images: 1438 to learn from, 359 held out, 8x8, grey" in told
    assert "generator: 133,444 parameters" in told
    assert ("encoder: " in told) == (family != "gan")
    assert ("discriminator: " in told) == (family != "vae")
    phases = {"vae": ["likelihood"], "gan": ["adversarial"], "hybrid": ["likelihood", "adversarial"]}
    assert [line.split()[0] for line in told.splitlines() if " phase: " in line] == phases[family]
    assert told.endswith("minutes; nothing was written\n")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_training_leaves_a_checkpoint_and_can_be_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    arguments = ["train", "--family=vae", "--images=8000", f"--out={run}", *TINY]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    patience_s = time.monotonic() + 60
    while not _lines(run) and process.poll() is None and time.monotonic() < patience_s:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert errors.startswith("figment train: stopped after ")
    assert errors.endswith(f"; to continue: figment resume {run}; to take it as it is: figment export {run}\n")
    assert (run / "checkpoint.safetensors").is_file()
    assert not (run / "model.json").exists()
    before = _lines(run)
    assert 0 < before[-1]["images"] < 8_000

    assert main(["resume", str(run)], _find) == 0
    assert f"{run}: trained" in capsys.readouterr().out
    assert _lines(run)[: len(before)] == before
    assert _lines(run)[-1]["images"] == 8_000
    assert Model.load(run).family == "vae"


def test_a_finished_run_is_not_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    main(["train", "--family=gan", "--images=32", f"--out={run}", *TINY], _find)
    assert main(["resume", str(run)], _find) == 1
    assert capsys.readouterr().err == f"figment resume: {run} is a finished run: nothing is left to do\n"


def test_a_folder_that_is_no_run_is_not_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(tmp_path)], _find) == 1
    assert (
        capsys.readouterr().err
        == f"figment resume: {tmp_path} is not a run: run.json is missing; runs are what figment train writes\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop_and_leaves_a_second_its_usual_effect(number: signal.Signals) -> None:
    usual = signal.getsignal(number)
    with _interruptible() as stopped:
        assert not stopped.is_set()
        signal.raise_signal(number)
        assert stopped.is_set()
        assert signal.getsignal(number) == usual
    assert signal.getsignal(number) == usual


def test_signals_have_their_usual_effect_after_a_training() -> None:
    usual = signal.getsignal(signal.SIGINT)
    with _interruptible():
        assert signal.getsignal(signal.SIGINT) != usual
    assert signal.getsignal(signal.SIGINT) == usual


def test_a_log_is_told_now_and_then_how_far_a_training_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 0.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now_s))
    with progress.told("vae on digits", total=1200) as report:
        for now_s in (1.0, 31.0, 32.0, 60.0, 62.0):
            report(Progress(int(10 * now_s), 1200, images_per_s=10.0))
    assert capsys.readouterr().err.splitlines() == [
        "vae on digits: 310 of 1200 images, 10/s, 1.5 minutes left",
        "vae on digits: 620 of 1200 images, 10/s, 1.0 minutes left",
    ]
