"""What a bundle holds: exact graphs always, lossy variants where they are good and fast, figures where they were asked for."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import json_format
from onnx import numpy_helper
from PIL import Image

from evaluation import features
from export import publish, quality_gate
from export.bundle import read_manifest, write_manifest
from export.errors import ExportError, ParityError
from export.golden import GOLDEN_SEED, golden_inputs, noise_of
from export.publish import Plan
from export.sessions import Arrays, run, session
from export.source import Source, from_run
from export.variants import LOSSY, Lossy
from export.verify import BATCH_SIZES
from figment.v1.manifest_pb2 import Manifest, Measurement
from training.errors import RunFolderError

MEASURED = {"generator.int8.onnx": 2000.0, "decoder.int8.onnx": 2000.0, "encoder.int8.onnx": 2000.0}
INT8 = Plan(variants=("int8",))


@pytest.fixture(scope="module")
def vae(runs: Path) -> Source:
    return from_run(runs / "vae")


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Images/s by file that are taken for measured, 1000 where nothing is said; quality by few images and a quick classifier."""
    chosen = dict(MEASURED)

    def measure(files: Sequence[Path], device: str, labels: int) -> list[Measurement]:
        rates = {file.name: chosen.get(file.name, 1000.0) for file in files}
        return [Measurement(graph=name, provider=device, threads=1, images_per_s=rate) for name, rate in rates.items()]

    monkeypatch.setattr(publish, "measure", measure)
    monkeypatch.setattr(quality_gate, "IMAGES_DRAWN", 1000)
    monkeypatch.setattr(features, "EPOCHS", 1)
    monkeypatch.setattr(quality_gate, "MAX_DRIFT", 0.3)  # networks trained for seconds on digits hardly stand 8 bits
    return chosen


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("vae", {"generator.onnx", "prior.onnx", "decoder.onnx", "encoder.onnx"}),
        ("gan", {"generator.onnx"}),
        ("hybrid", {"generator.onnx", "prior.onnx", "decoder.onnx", "encoder.onnx"}),
    ],
)
def test_a_bundle_has_the_graphs_of_its_family_and_a_manifest_of_them(models: Path, name: str, files: set[str]):
    folder = models / name / "1"
    manifest = json_format.Parse((folder / "manifest.json").read_text(), Manifest())
    assert {path.name for path in folder.iterdir()} == files | {"manifest.json", "golden.npz", "samples.png"}
    assert set(manifest.graphs) == set(manifest.parity) == files
    assert (manifest.name, manifest.version, manifest.family) == (name, "1", name)
    assert (manifest.height, manifest.width, manifest.channels, manifest.latent_dim) == (32, 32, 1, 16)
    assert manifest.noise_dim == (16 if name == "gan" else 17)
    assert (manifest.provenance.data, manifest.provenance.run) == ("digits", name)
    for file, parity in manifest.parity.items():
        assert parity.worst_error <= parity.tolerance
        assert list(parity.batch_sizes) == list(BATCH_SIZES)
        assert parity.HasField("unrounded_error") == (parity.unit == "grey_levels")
        assert parity.unrounded_error <= 1e-5
        onnx.checker.check_model(folder / file, full_check=True)
    assert not manifest.quality
    assert not manifest.measured


def test_what_is_to_be_said_of_the_data_is_in_the_manifest(runs: Path, tmp_path: Path):
    shutil.copytree(runs / "gan", tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["notices"] == []
    said = ["trained on my own drawings; license: CC0", "begun with the weights of others; license: MIT"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record | {"notices": said}))
    write_manifest(from_run(tmp_path / "run").facts, tmp_path)
    assert list(read_manifest(tmp_path).provenance.notices) == said


@pytest.mark.parametrize("name", ["gan", "hybrid"])
def test_graphs_tell_nothing_of_the_machine_that_made_them(models: Path, name: str):
    for file in (models / name / "1").glob("*.onnx"):
        graph = onnx.load(file)
        for weights in graph.graph.initializer:
            weights.ClearField("raw_data")  # any three bytes come somewhere in a megabyte of numbers
        content = graph.SerializeToString()
        assert b".py" not in content
        assert str(Path.cwd()).encode() not in content


def test_graphs_take_any_batch_and_give_bytes_in_nhwc(models: Path):
    for name, labels, size in (("vae", 0, 32), ("gan", 0, 32), ("labelled-gan", 10, 16)):
        graph = session(onnx.load(models / name / "1" / "generator.onnx"))
        images = run(graph, golden_inputs(5, graph.get_inputs()[0].shape[1], labels))["images"]
        assert images.dtype == np.uint8
        assert images.shape == (5, size, size, 1)


def test_the_decoder_after_the_prior_gives_the_generators_bytes(vae: Source):
    graphs = {role: session(graph) for role, graph in vae.graphs.items()}
    noise = golden_inputs(64, 17, 0)
    decoded = run(graphs["decoder"], run(graphs["prior"], noise))["images"]
    assert decoded.tobytes() == run(graphs["generator"], noise)["images"].tobytes()


def test_golden_images_are_those_of_the_trained_networks(models: Path, runs: Path):
    golden = np.load(models / "labelled-gan" / "1" / "golden.npz")
    noise, label = noise_of(GOLDEN_SEED, 3, 16, 10)
    assert golden["noise"][3].tobytes() == noise.tobytes()
    assert golden["labels"][3] == label
    wanted = from_run(runs / "labelled-gan").networks("generator", {"noise": noise[None], "label": np.array([label])})
    pixels = np.rint(wanted["images"][0]).clip(0, 255)
    assert np.abs(pixels - golden["images"][3]).max() <= golden["tolerance"] == 1


def test_a_good_and_fast_int8_variant_is_in_the_bundle(vae: Source, speeds: dict[str, float], tmp_path: Path):
    published = publish.publish(vae, tmp_path, "m", INT8)
    assert published.left_out == []
    manifest = read_manifest(published.folder)
    lossy = {"generator.int8.onnx": "generator", "decoder.int8.onnx": "decoder", "encoder.int8.onnx": "encoder"}
    assert {file: graph.role for file, graph in manifest.graphs.items() if graph.variant == "int8"} == lossy
    for file in lossy:
        assert (published.folder / file).stat().st_size < (published.folder / file.replace(".int8", "")).stat().st_size
        assert set(manifest.parity[file].drift) == {"frechet_random", "fid_clf"}
        for drift in manifest.parity[file].drift.values():
            assert abs(drift.variant / drift.fp32 - 1) <= 0.3
            assert drift.images == 1000
    assert manifest.parity["generator.int8.onnx"].psnr_db > 35
    assert {found.graph for found in manifest.measured} == set(manifest.graphs)
    golden = np.load(published.folder / "golden.npz")
    drawn = run(session(onnx.load(published.folder / "generator.int8.onnx")), {"noise": golden["noise"]})["images"]
    assert drawn.tobytes() == golden["images_int8"].tobytes()
    assert drawn.tobytes() != golden["images"].tobytes()
    assert 0 < golden["tolerance_int8"] <= 8


def test_a_variant_that_is_no_faster_is_left_out(vae: Source, speeds: dict[str, float], tmp_path: Path):
    speeds["generator.int8.onnx"] = 900.0
    published = publish.publish(vae, tmp_path, "m", INT8)
    (reason,) = published.left_out
    assert reason == "generator.int8.onnx: 900 images/s on cpu, the fp32 graph makes 1000: not worth its loss"
    assert set(published.manifest.graphs) == set(published.manifest.parity) == {f"{role}.onnx" for role in vae.graphs}
    assert not list(published.folder.glob("*int8*"))
    assert "images_int8" not in np.load(published.folder / "golden.npz")


def test_an_encoder_that_is_no_faster_stays_in_fp32(vae: Source, speeds: dict[str, float], tmp_path: Path):
    speeds["encoder.int8.onnx"] = 1000.0
    published = publish.publish(vae, tmp_path, "m", INT8)
    assert len(published.left_out) == 1
    assert {path.name for path in published.folder.glob("*int8*")} == {"generator.int8.onnx", "decoder.int8.onnx"}


def test_a_variant_that_draws_other_images_is_left_out(
    vae: Source, speeds: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def darker(graph: onnx.ModelProto, inputs: Arrays) -> onnx.ModelProto:
        """Every image eight grey levels brighter: 30 dB, which an eye hardly sees."""
        copy = onnx.ModelProto.FromString(graph.SerializeToString())
        bias = next(node.input[2] for node in reversed(copy.graph.node) if node.op_type == "Conv")
        weights = next(tensor for tensor in copy.graph.initializer if tensor.name == bias)
        weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) + 8, bias))
        return copy

    monkeypatch.setitem(LOSSY, "int8", Lossy(darker, "cpu"))
    published = publish.publish(vae, tmp_path, "m", INT8)
    (reason,) = published.left_out
    assert reason.startswith("generator.int8.onnx: Frechet distance (frechet_random) ")
    assert "allowed are 30% either way" in reason
    assert {path.name for path in published.folder.glob("*.onnx")} == {f"{role}.onnx" for role in vae.graphs}


def test_a_perturbed_exact_graph_is_refused_and_nothing_is_published(vae: Source, tmp_path: Path):
    generator = onnx.ModelProto.FromString(vae.graphs["decoder"].SerializeToString())
    weights = max(generator.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(1.1), weights.name))
    with pytest.raises(ParityError, match=r"^decoder\.onnx: images are off by \d+ grey_levels at batch size 64"):
        publish.publish(replace(vae, graphs={**vae.graphs, "decoder": generator}), tmp_path, "m")
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_carries_the_quality_that_was_asked_for(vae: Source, speeds: dict[str, float], tmp_path: Path):
    quality = dict(publish.publish(vae, tmp_path, "m", Plan(evaluate=True)).manifest.quality)
    assert set(quality) == {"frechet_random", "fid_clf", "reconstruction_psnr_db"}
    assert all(np.isfinite(figure) and figure > 0 for figure in quality.values())
    assert 15 < quality["reconstruction_psnr_db"] < 40


def test_quality_is_asked_for_before_anything_is_published(vae: Source, tmp_path: Path):
    def missing() -> None:
        raise ExportError("data: nowhere")

    with pytest.raises(ExportError, match="nowhere"):
        publish.publish(replace(vae, data=missing), tmp_path, "m", Plan(evaluate=True))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path):
    with pytest.raises(RunFolderError, match=r"is not a run: run\.json is missing"):
        from_run(tmp_path)


def test_data_that_has_moved_is_asked_for(vae: Source, runs: Path):
    with pytest.raises(ExportError, match=r"--data tells where they are: data: '/nowhere' is neither"):
        from_run(runs / "gan", data="/nowhere").data()
    assert len(vae.data().seen) == 1438


def test_the_sheet_of_a_bundle_is_a_picture(models: Path):
    with Image.open(models / "vae" / "1" / "samples.png") as sheet:
        assert sheet.width == sheet.height >= 8 * 32


@pytest.mark.parametrize(
    ("exact", "variant", "told"), [(2.0, 2.1, "+5.00%"), (0.0, 0.1, "from nothing"), (0.0, 0.0, "unchanged")]
)
def test_what_a_variant_does_to_images_that_are_all_the_same_is_told(exact: float, variant: float, told: str):
    assert quality_gate.relative_change(exact, variant) == told
