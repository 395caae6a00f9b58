"""How a training may end before its time: a terminal that closes, a full disk, numbers that are none."""

import fcntl
import math
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from training import checkpoint
from training.command import _interruptible
from training.errors import DataError, Diverged, RunFolderError, Stopped
from training.families import vae
from training.settings import TrainSettings
from training.trainer import resume, train

pytestmark = pytest.mark.slow

TINY = ["--data=digits", "--size=8", "--latent-dim=4", "--batch=16", "--device=cpu"]

PROGRAM = """
import sys
from types import SimpleNamespace
from figment.cli.command import main
from training.command import Train

sys.exit(main(find=lambda verb: SimpleNamespace(load=lambda: Train)))
"""


def _settings(out: Path, family: str = "vae", **changes: object) -> TrainSettings:
    chosen = {"data": "digits", "size": 8, "latent_dim": 4, "images": 480, "batch": 16, "device": "cpu"}
    return TrainSettings.model_validate({"out": out, "family": family, "sheet_every": 10_000, **chosen, **changes})


def _after(steps: int) -> Callable[[], bool]:
    asked = iter(range(1, 10_000))
    return lambda: next(asked) == steps


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_training_whose_terminal_closes_is_saved(tmp_path: Path) -> None:
    run = tmp_path / "run"
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "train", "--family=vae", "--images=10000000", f"--out={run}", *TINY],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(theirs)
    patience_s = time.monotonic() + 60
    while not (run / "stats.jsonl").exists() or not (run / "stats.jsonl").read_text():
        assert process.poll() is None
        assert time.monotonic() < patience_s
        time.sleep(0.02)
    os.close(ours)  # the kernel sends SIGHUP, and whatever is written to the terminal now is an error
    assert process.wait(timeout=60) == 1
    assert (run / "checkpoint.safetensors").is_file()


def test_a_second_hang_up_does_not_stop_the_saving() -> None:
    """A shell sends one beside the kernel's."""
    with _interruptible() as stopped:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert stopped.is_set()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_a_training_under_nohup_goes_on_when_its_terminal_closes() -> None:
    usual = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _interruptible() as stopped:
            signal.raise_signal(signal.SIGHUP)
            assert not stopped.is_set()
    finally:
        signal.signal(signal.SIGHUP, usual)


@pytest.mark.parametrize("out", [Path("/proc/figment/run"), Path("/etc/passwd/run"), Path("/etc/passwd")])
def test_a_folder_that_cannot_be_written_is_told_before_the_images_are_read(out: Path) -> None:
    with pytest.raises(RunFolderError, match=f"^out: {out} cannot be written: "):
        train(_settings(out, data="/nowhere"))


def test_images_that_cannot_be_read_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        train(_settings(tmp_path / "runs" / "run", data="/nowhere"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", ["stats.jsonl", "samples-000000480.png", ".model.json.writing"])
def test_a_full_disk_is_told_with_what_to_do_and_the_training_can_go_on(file: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Stopped):
        train(_settings(run), is_stopped=_after(3))
    kept = (run / file).read_text() if (run / file).exists() else ""
    (run / file).unlink(missing_ok=True)

    def fill(_: object) -> None:
        """The first report comes after what `resume` writes at its start."""
        if not (run / file).is_symlink():
            (run / file).unlink(missing_ok=True)
            (run / file).symlink_to("/dev/full")

    (run / "stats.jsonl").write_text(kept)
    with pytest.raises(
        RunFolderError, match=rf"^out: {run} cannot be written: .*No space left.*: figment resume {run}$"
    ):
        resume(run, fill)
    assert not (run / "model.json").exists()
    (run / file).unlink()
    (run / "stats.jsonl").touch()
    assert resume(run).family == "vae"


def test_half_a_checkpoint_is_not_kept_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(state: object, file: Path) -> None:
        file.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(RunFolderError, match=r"cannot be written: .*No space left on device"):
        train(_settings(tmp_path / "run"), is_stopped=_after(3))
    assert not list((tmp_path / "run").glob("*checkpoint*"))
    assert not list((tmp_path / "run").glob(".*writing"))


def _nan_from(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, true = iter(range(10_000)), vae.kl_divergence
    monkeypatch.setattr(
        vae, "kl_divergence", lambda mean, log: true(mean, log) * (math.nan if next(calls) >= call else 1)
    )


def test_a_checkpoint_is_only_taken_of_weights_that_are_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The losses are read between reports too, before a checkpoint: here after the eighth step, of every four."""
    _nan_from(5, monkeypatch)
    with pytest.raises(Diverged, match=r"^step 5: kl is nan: the training diverged"):
        train(_settings(tmp_path / "run", checkpoint_every=64))
    monkeypatch.undo()
    resume(tmp_path / "run")


@pytest.mark.parametrize("family", ["gan", "hybrid", "vae"])
def test_weights_that_the_last_step_spoilt_are_told_with_advice(family: str, tmp_path: Path) -> None:
    settings = _settings(tmp_path / "run", family, images=16, learning_rate=1e38, prior="normal")
    with pytest.raises(Diverged) as told:
        train(settings)
    assert "the training diverged; begin it anew in another --out with a lower --learning-rate, 1e+38 here" in str(
        told.value
    )
    assert ("a higher --gamma, 1 here" in str(told.value)) == (family != "vae")
    assert not (tmp_path / "run" / "model.json").exists()
