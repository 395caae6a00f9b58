"""`figment bench model`: figures of every graph, printed and kept."""

import re
from pathlib import Path
from shutil import copytree

import pytest

from export import measure
from export.bundle import read_manifest
from export.command import Bench
from export.errors import MeasurementError


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
