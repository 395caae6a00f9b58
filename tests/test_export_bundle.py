"""What the export writes: verified graphs, a manifest, golden images, published by one rename; or nothing at all."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from google.protobuf import json_format
from PIL import Image

from export import exporter
from export.bundle import new_version
from export.errors import BundleError, ParityError
from export.exporter import export
from export.golden import GOLDEN_SEED, golden_inputs, noise_of
from export.graphs import Role, roles, write_graph
from export.verify import BATCH_SIZES, verify
from figment.v1.manifest_pb2 import Manifest
from training.errors import RunFolderError
from training.model import Model


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def generator(runs: Path) -> Role:
    return roles(Model.load(runs / "gan"))[0]


def written(role: Role, folder: Path) -> Path:
    path = folder / f"{role.name}.onnx"
    write_graph(role, {"noise": torch.zeros(2, 16)}, path)
    return path


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
    assert manifest.provenance.data == "digits"
    assert manifest.provenance.run == name
    assert manifest.provenance.versions["torch"].startswith(torch.__version__.partition("+")[0])
    for parity in manifest.parity.values():
        assert parity.worst_error <= parity.tolerance
        assert list(parity.batch_sizes) == list(BATCH_SIZES)
    assert "noise_dim" in json.loads((folder / "manifest.json").read_text())


@pytest.mark.parametrize("name", ["vae", "gan", "labelled-gan"])
def test_graphs_take_any_batch_and_give_bytes_in_nhwc(models: Path, name: str):
    graph = session(models / name / "1" / "generator.onnx")
    size = 16 if name == "labelled-gan" else 32
    inputs = golden_inputs(5, graph.get_inputs()[0].shape[1], 10 if name == "labelled-gan" else 0)
    (images,) = graph.run(["images"], inputs)
    assert images.dtype == np.uint8
    assert images.shape == (5, size, size, 1)
    onnx.checker.check_model(models / name / "1" / "generator.onnx", full_check=True)


def test_the_decoder_after_the_prior_gives_the_generators_bytes(models: Path):
    noise = golden_inputs(64, 17, 0)
    (latent,) = session(models / "vae" / "1" / "prior.onnx").run(None, noise)
    (decoded,) = session(models / "vae" / "1" / "decoder.onnx").run(None, {"latent": latent})
    (generated,) = session(models / "vae" / "1" / "generator.onnx").run(None, noise)
    assert decoded.tobytes() == generated.tobytes()


def test_golden_images_are_those_of_the_trained_networks(models: Path, runs: Path):
    golden = np.load(models / "labelled-gan" / "1" / "golden.npz")
    noise, label = noise_of(GOLDEN_SEED, 3, 16, 10)
    assert golden["noise"][3].tobytes() == noise.tobytes()
    assert golden["labels"][3] == label
    with torch.inference_mode():
        trained = Model.load(runs / "labelled-gan").generate(torch.from_numpy(noise)[None], torch.tensor([label]))
    pixels = (trained[0, 0].numpy() * 127.5 + 127.5).round().clip(0, 255)
    assert np.abs(pixels - golden["images"][3, ..., 0]).max() <= golden["tolerance"] == 1


def test_a_perturbed_graph_is_refused_with_the_figure(generator: Role, tmp_path: Path):
    path = written(generator, tmp_path)
    model = onnx.load(path)
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = np.frombuffer(weights.raw_data, np.float32) * np.float32(1.1)
    weights.raw_data = values.tobytes()
    onnx.save(model, path)
    message = r"^generator\.onnx: images is off by \d+ grey_levels at batch size 64, allowed are 1$"
    with pytest.raises(ParityError, match=message):
        verify(generator, path, golden_inputs(64, 16, 0))


def test_a_graph_that_mixes_rows_of_a_batch_is_refused(generator: Role, tmp_path: Path):
    class Mixing(torch.nn.Module):
        def forward(self, noise: torch.Tensor) -> torch.Tensor:
            return generator.module(noise - 0.5 * noise.mean(0))

    mixing = Role("generator", Mixing(), generator.inputs, generator.outputs)
    with pytest.raises(ParityError, match="at batch size 1 is not that of batch size 64"):
        verify(mixing, written(mixing, tmp_path), golden_inputs(64, 16, 0))


def test_a_failed_check_publishes_nothing(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(role: Role, path: Path, inputs: object) -> None:
        raise ParityError(f"{path.name}: off")

    monkeypatch.setattr(exporter, "verify", refuse)
    with pytest.raises(ParityError):
        export(runs / "gan", tmp_path, "gan")
    assert list(tmp_path.iterdir()) == []


def test_versions_count_up_and_appear_whole(tmp_path: Path):
    for version in ("1", "2"):
        with new_version(tmp_path, "m") as (folder, number):
            assert number == version
            (folder / "file").write_text(version)
            assert not (tmp_path / "m" / version).exists()
        assert (tmp_path / "m" / version / "file").read_text() == version
    with new_version(tmp_path, "m"), pytest.raises(BundleError, match="another export is writing it"):
        new_version(tmp_path, "m").__enter__()


@pytest.mark.parametrize("name", ["", "Upper", "../up", "a/b", ".hidden", "x" * 65])
def test_a_name_that_is_no_plain_folder_is_refused(tmp_path: Path, name: str):
    with pytest.raises(BundleError, match="name: got"):
        new_version(tmp_path, name).__enter__()


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path):
    with pytest.raises(RunFolderError, match="is not a finished run"):
        export(tmp_path, tmp_path / "models", "x")


def test_tritons_config_names_the_tensors_of_the_generator(models: Path):
    text = (models / "labelled-gan" / "config.pbtxt").read_text()
    tensors = re.findall(r'name: "(\w+)" data_type: (\w+) dims: \[ ([\d, ]+) \]', text)
    assert tensors == [
        ("noise", "TYPE_FP32", "16"),
        ("label", "TYPE_INT64", "1"),
        ("images", "TYPE_UINT8", "16, 16, 1"),
    ]
    assert 'default_model_filename: "generator.onnx"' in text


def test_the_sheet_of_a_bundle_is_a_picture(models: Path):
    with Image.open(models / "vae" / "1" / "samples.png") as sheet:
        assert sheet.width == sheet.height >= 8 * 32
