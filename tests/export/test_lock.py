"""One export at a time writes a model, is told so before any work, and leaves nothing behind, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export import command
from export.bundle import model_folder, new_version
from export.errors import BundleError
from export.publish import make_and_publish
from export.source import Source
from figment.cli.command import main

pytestmark = pytest.mark.slow

HOLDER = """
import sys
from pathlib import Path
from export.bundle import model_folder, new_version

with model_folder(Path(sys.argv[1]), "m") as model, new_version(model) as (folder, version):
    (folder / "generator.onnx").write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def _python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _never() -> Source:
    raise AssertionError("work was begun")


def test_a_second_export_of_a_name_is_told_before_any_work_and_a_dead_one_blocks_nobody(tmp_path: Path):
    with _python(HOLDER, str(tmp_path)) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "writing\n"
        with pytest.raises(BundleError, match=r"m: another export is writing it; wait .* or choose another --name"):
            make_and_publish(_never, tmp_path, "m")
        with model_folder(tmp_path, "other"):
            pass
        holder.kill()
    assert (tmp_path / "m" / ".1.writing").exists()
    with model_folder(tmp_path, "m") as model:
        assert {path.name for path in model.iterdir()} == {".lock"}
        with new_version(model) as (folder, version):
            assert version == "1"
            (folder / "generator.onnx").write_text("whole")
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"1"}


def test_a_folder_of_models_that_cannot_be_written_is_told_before_any_work(tmp_path: Path):
    (tmp_path / "models").write_text("a file")
    for models in (tmp_path / "models", Path("/proc/models")):
        with pytest.raises(BundleError, match=f"^{models}: nothing was published: "):
            make_and_publish(_never, models, "m")


def test_what_the_disk_refuses_is_told_and_leaves_nothing(tmp_path: Path):
    def fill() -> None:
        with model_folder(tmp_path / "models", "m") as model, new_version(model) as (folder, _):
            (folder / "full").symlink_to("/dev/full")
            (folder / "full").write_text("half")

    with pytest.raises(BundleError, match=r"m: nothing was published: .*No space left"):
        fill()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_export_that_is_ended_by_a_signal_leaves_nothing_behind(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def cut_off(make: object, models: Path, name: str, plan: object) -> None:
        with model_folder(models, name) as model, new_version(model) as (folder, _):
            (folder / "generator.onnx").write_text("half")
            signal.raise_signal(number)
        raise AssertionError("the signal was lost")

    monkeypatch.setattr(command, "make_and_publish", cut_off)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whom a shell runs in the background ignores it
    try:
        status: object = main(["export", "runs/m", "--models", str(tmp_path / "models")])
    except SystemExit as ended:
        status = ended.code
    finally:
        signal.signal(signal.SIGINT, before)
    assert (status, capsys.readouterr().err.strip()) == (128 + number, "")
    assert list(tmp_path.iterdir()) == []


def test_signals_have_their_usual_effect_after_an_export():
    usual = signal.getsignal(signal.SIGTERM)
    with command._ended_by_signals():
        assert signal.getsignal(signal.SIGTERM) != usual
    assert signal.getsignal(signal.SIGTERM) == usual


def test_an_export_whose_folder_went_between_two_steps_of_taking_its_lock_makes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The export before removes an empty model's folder when it ends."""
    opened, real = list[str](), os.open

    def open_after_removal(path: str, *arguments: int) -> int:
        opened.append(str(path))
        if len(opened) == 1:
            (tmp_path / "m").rmdir()
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", open_after_removal)
    with model_folder(tmp_path, "m") as model:
        assert (model / ".lock").exists()
    assert len(opened) == 2
