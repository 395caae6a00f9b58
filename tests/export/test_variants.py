"""The table of lossy variants is the only place of the export that names them: a row more is made, checked and published."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from evaluation import features
from export import publish, quality_gate
from export.publish import Plan
from export.source import from_run
from export.variants import LOSSY, Lossy, variants_for
from figment.v1.manifest_pb2 import Measurement


def test_a_row_is_all_that_a_new_variant_needs(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def measure(files: Sequence[Path], device: str, labels: int) -> list[Measurement]:
        return [Measurement(graph=file.name, images_per_s=1.0 + file.name.count(".")) for file in files]

    monkeypatch.setitem(LOSSY, "int4", Lossy(lambda graph, inputs: graph, "cpu"))
    monkeypatch.setattr(publish, "measure", measure)
    monkeypatch.setattr(quality_gate, "IMAGES_DRAWN", 500)
    monkeypatch.setattr(features, "EPOCHS", 1)
    assert variants_for("cpu") == ("int8", "int4")
    published = publish.publish(from_run(runs / "gan"), tmp_path, "m", Plan(("int4",)))
    assert published.left_out == []
    assert set(published.manifest.graphs) == {"generator.onnx", "generator.int4.onnx"}
    assert (published.folder / "generator.int4.onnx").is_file()
