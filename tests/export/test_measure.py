"""`figment bench model`: figures of every graph, printed and kept."""

import re
from pathlib import Path
from shutil import copytree

import pytest

from export import measure, publish
from export.bundle import read_manifest
from export.command import Bench
from export.errors import MeasurementError
from export.sessions import session_on
from export.source import from_run
from export.variants import LOSSY, Lossy


@pytest.fixture
def version(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(measure, "ROUNDS", 1)
    return copytree(models / "labelled-gan" / "1", tmp_path / "labelled-gan" / "1")


def test_the_figures_of_a_version_are_printed_and_kept_if_asked_for(version: Path, capsys: pytest.CaptureFixture[str]):
    before = (version / "manifest.json").read_text()
    Bench(what="model", version=version).cli_cmd()
    assert re.search(r"^ *generator +1 +64 ", capsys.readouterr().out, re.MULTILINE)
    assert (version / "manifest.json").read_text() == before
    for _ in range(2):  # measured again, figures replace those that are there
        Bench(what="model", version=version, write=True).cli_cmd()
    measured = read_manifest(version).measured
    assert {found.batch_size for found in measured} == set(measure.BATCH_SIZES)
    keys = [(found.graph, found.threads, found.batch_size) for found in measured]
    assert len(set(keys)) == len(keys)
    for found in measured:
        assert found.machine == measure.machine()
        assert found.provider == "CPUExecutionProvider"
        assert 0 < found.latency_p50_s <= found.latency_p99_s
        assert found.images_per_s == pytest.approx(found.batch_size / found.latency_p50_s)
        assert 0 < found.cpu_s_per_image < 1
        assert 2**20 < found.peak_memory_bytes < 2**30


def test_a_folder_with_modules_of_the_same_names_changes_nothing(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("export", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    assert measure.measure([version / "generator.onnx"], "cpu", 10)


def test_a_graph_that_cannot_be_run_is_named_with_the_reason(tmp_path: Path):
    (tmp_path / "broken.onnx").write_bytes(b"not a graph")
    with pytest.raises(MeasurementError, match=r"^broken\.onnx: cannot be measured with CPUExecutionProvider: "):
        measure.measure([tmp_path / "broken.onnx"], "cpu", 0)


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="a GPU is here")
def test_figures_of_another_device_than_was_asked_for_are_neither_printed_nor_kept(
    version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before = (version / "manifest.json").read_text()
    with pytest.raises(MeasurementError, match="CUDAExecutionProvider was asked for, but"):
        Bench(what="model", version=version, device="cuda", write=True).cli_cmd()
    assert capsys.readouterr().out == ""
    assert (version / "manifest.json").read_text() == before


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="a GPU is here")
def test_a_provider_that_onnxruntime_puts_another_in_place_of_is_an_error(
    version: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(measure.onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(measure.onnxruntime, "preload_dlls", lambda: None)
    with pytest.raises(MeasurementError, match="and runs CPUExecutionProvider"):
        session_on("CUDAExecutionProvider", str(version / "generator.onnx"), 1)
    with pytest.raises(MeasurementError, match=r"^CPUExecutionProvider was asked for; this onnxruntime has CUDAEx"):
        session_on("CPUExecutionProvider", str(version / "generator.onnx"), 1)


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="a GPU is here")
def test_a_device_that_is_not_there_ends_an_export_before_its_variants_are_made(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(LOSSY, "fp16", Lossy(lambda graph, inputs: pytest.fail("made"), "cuda"))
    with pytest.raises(MeasurementError, match="CUDAExecutionProvider was asked for, but"):
        publish.publish(from_run(runs / "gan"), tmp_path, "m", publish.Plan(("fp16",), measure=True, device="cuda"))
    assert not list((tmp_path / "m").glob("[0-9]*"))


def test_batches_that_memory_cannot_hold_are_not_measured(version: Path, monkeypatch: pytest.MonkeyPatch):
    peaks = iter([10, *[n for rows in (1, 4, 16) for n in [10 + 100 * rows] * 2]])
    monkeypatch.setattr(measure, "peak_bytes", lambda: next(peaks))
    monkeypatch.setattr(measure, "free_bytes", lambda: 2000)
    monkeypatch.setattr(measure, "RUN_S", 0.0)
    setting = measure.Setting(str(version / "generator.onnx"), "CPUExecutionProvider", 1, 10)
    assert [found["batch_size"] for found in measure._measurements(setting)] == [1, 4, 16]
