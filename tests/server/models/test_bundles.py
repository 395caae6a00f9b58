"""A damaged bundle is refused with its reason while the others are served."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest

from export.bundle import graph_entry
from figment.v1 import image_service_pb2 as pb
from figment.v1 import model_service_pb2
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from figment.v1.model_service_pb2 import VersionState
from figment.v1.model_service_pb2_grpc import ModelServiceStub
from server.errors import BundleRefused
from server.models.bundle import Bundle, read_bundle
from tests.fakes.servers import running_server


def edit(folder: Path, change: Callable[[dict], None]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "decoder.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "decoder.onnx").write_bytes(content)


def change_golden(folder: Path) -> None:
    arrays = dict(np.load(folder / "golden.npz"))
    arrays["images"] = 255 - arrays["images"]
    np.savez(folder / "golden.npz", **arrays)


def golden(**changed: np.ndarray) -> Callable[[Path], None]:
    """Damage that replaces arrays of golden.npz."""
    return lambda folder: np.savez(folder / "golden.npz", **{**np.load(folder / "golden.npz"), **changed})


def encoder_as_decoder(folder: Path) -> None:
    (folder / "decoder.onnx").write_bytes((folder / "encoder.onnx").read_bytes())
    entry = graph_entry(folder / "decoder.onnx", "decoder", "fp32", 20)
    edit(folder, lambda m: m["graphs"]["decoder.onnx"].update(sha256=entry.sha256))


def pickle_golden(folder: Path) -> None:
    np.savez(folder / "golden.npz", noise=np.array([{"a": 1}], object), images=np.zeros(1), tolerance=1)


def no_graph(folder: Path) -> None:
    path = folder / "generator.onnx"
    path.write_bytes(b"not a graph")
    entry = graph_entry(path, "generator", "fp32", 20)
    edit(folder, lambda m: m["graphs"]["generator.onnx"].update(sha256=entry.sha256))


def one_batch_size(folder: Path) -> None:
    """A generator that draws as many images as there are golden ones, and no other number."""
    path = folder / "generator.onnx"
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 16
    path.write_bytes(model.SerializeToString())
    entry = graph_entry(path, "generator", "fp32", 20)
    edit(folder, lambda m: m["graphs"]["generator.onnx"].update(sha256=entry.sha256))


def data_outside(folder: Path) -> None:
    """A graph whose weights lie in a file outside of the bundle."""
    path = folder / "generator.onnx"
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (folder / "weights.bin").rename(folder.parent / "weights.bin")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
    path.write_bytes(model.SerializeToString())
    entry = graph_entry(path, "generator", "fp32", 20)
    edit(folder, lambda m: m["graphs"]["generator.onnx"].update(sha256=entry.sha256))


def instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Damage that puts something else in the place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped byte": (flip_a_byte, "decoder.onnx is damaged: sha256"),
    "a missing graph": (lambda f: (f / "prior.onnx").unlink(), "prior.onnx is missing"),
    "a missing manifest": (lambda f: (f / "manifest.json").unlink(), "manifest.json is missing"),
    "an unparsable manifest": (lambda f: (f / "manifest.json").write_text("{"), "manifest.json cannot be read"),
    "an endless depth": (lambda f: (f / "manifest.json").write_text("[" * 200_000), "manifest.json cannot be read"),
    "a manifest without end": (instead("manifest.json", lambda p: p.symlink_to("/dev/zero")), "a pipe or a device"),
    "a huge manifest": (lambda f: os.truncate(f / "manifest.json", 1 << 30), "manifest.json has 1073741824 bytes"),
    "a pipe as a manifest": (instead("manifest.json", os.mkfifo), "manifest.json is no file, but a pipe"),
    "a pipe as a graph": (instead("prior.onnx", os.mkfifo), "prior.onnx is no file, but a pipe"),
    "a pipe as golden images": (instead("golden.npz", os.mkfifo), "golden.npz is no file, but a pipe"),
    "a folder as a graph": (instead("prior.onnx", os.mkdir), "prior.onnx cannot be read: Is a directory"),
    "a link that leads nowhere": (instead("prior.onnx", lambda p: p.symlink_to("gone")), "prior.onnx is missing"),
    "a link to itself": (instead("golden.npz", lambda p: p.symlink_to(p.name)), "Too many levels of symbolic links"),
    "golden images of no bytes": (lambda f: (f / "golden.npz").write_bytes(b""), "golden.npz cannot be read"),
    "another name": (lambda f: edit(f, lambda m: m.update(name="x")), "says 'x' version '1', the folder says"),
    "another format": (lambda f: edit(f, lambda m: m.update(format=2)), "format 2, this server reads 1"),
    "a latent of another shape": (
        lambda f: edit(f, lambda m: m.update(latent_shape=["4", "2", "3"])),
        "latent_shape [4, 2, 3], latent_dim 16",
    ),
    "a truncation of more than the noise": (
        lambda f: edit(f, lambda m: m.update(truncatedDim=18)),
        "latent_dim 16, truncated_dim 18, noise_dim 17",
    ),
    "no generator": (lambda f: edit(f, lambda m: m["graphs"].pop("generator.onnx")), "no generator of variant fp32"),
    "an unknown role": (lambda f: edit(f, lambda m: m["graphs"]["prior.onnx"].update(role="x")), "role 'x' is none of"),
    "a graph elsewhere": (
        lambda f: edit(f, lambda m: m["graphs"].update({"../x.onnx": m["graphs"].pop("prior.onnx")})),
        "not the plain name of an .onnx file",
    ),
    "no golden images": (lambda f: (f / "golden.npz").unlink(), "golden.npz is missing"),
    "golden images that are not golden": (change_golden, "off the golden images by"),
    "golden noise of no shape": (golden(noise=np.float32(0)), "golden.npz: noise is float32 ()"),
    "golden images of text": (golden(images=np.array(["a"])), "golden.npz: noise is float32 (16, 17), must be"),
    "a tolerance of NaN": (golden(tolerance=np.float32(np.nan)), "tolerance is nan, allowed are 0 to 8"),
    "a graph of another role": (encoder_as_decoder, "decoder: gives mean, log_variance, must give images"),
    "a pickle": (pickle_golden, "golden.npz cannot be read"),
    "no graph at all": (no_graph, "onnxruntime cannot load the graph"),
    "a graph of one batch size": (one_batch_size, "onnxruntime cannot run batches of all sizes"),
    "weights outside of the bundle": (data_outside, "onnxruntime cannot load the graph"),
}


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """A models folder with a good model and a copy of another."""
    for name in ("vae", "gan"):
        shutil.copytree(models / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_bundle_is_refused_with_its_reason(folder: Path, damage: str):
    change, reason = DAMAGE[damage]
    change(folder / "vae" / "1")
    with running_server(folder) as app, grpc.insecure_channel(app.address) as channel:
        good = ImageServiceStub(channel).Generate(pb.GenerateRequest(model="gan", count=1))
        with pytest.raises(grpc.RpcError) as refused:
            ImageServiceStub(channel).Generate(pb.GenerateRequest(model="vae", count=1))
        listed = ModelServiceStub(channel).ListModels(model_service_pb2.ListModelsRequest())
    assert good.images.count == 1
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason in refused.value.details()
    (vae,) = [model for model in listed.models if model.name == "vae"]
    assert vae.default_version == ""
    assert vae.versions[0].state == VersionState.VERSION_STATE_FAILED
    assert reason in vae.versions[0].reason


def test_what_nobody_thought_of_costs_one_version_and_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def read(path: Path, *arguments: object) -> Bundle:
        if "vae" in path.parts:
            raise KeyError("surprise")
        return read_bundle(path, *arguments)

    monkeypatch.setattr("server.runtime.loading.read_bundle", read)
    with running_server(folder) as app:
        assert app.model_names == ["gan"]
        assert app.refusals() == ["vae 1: cannot be loaded: KeyError: 'surprise'"]


def test_an_older_version_serves_while_the_newest_is_damaged(folder: Path):
    shutil.copytree(folder / "vae" / "1", folder / "vae" / "10")
    shutil.copytree(folder / "vae" / "1", folder / "vae" / "9")
    edit(folder / "vae" / "9", lambda m: m.update(version="9"))
    with running_server(folder) as app, grpc.insecure_channel(app.address) as channel:
        reply = ImageServiceStub(channel).Generate(pb.GenerateRequest(model="vae", count=1))
        known = ModelServiceStub(channel).GetModel(model_service_pb2.GetModelRequest(model="vae"))
    assert reply.version == known.default_version == "9"
    assert [status.version for status in known.versions] == ["10", "9", "1"]


def test_what_is_no_version_is_no_model(folder: Path):
    (folder / "vae" / ".2.writing").mkdir()
    (folder / "vae" / "02").mkdir()
    (folder / "Upper" / "1").mkdir(parents=True)
    (folder / "notes.txt").write_text("")
    with running_server(folder) as app:
        assert app.registry.names == ["gan", "vae"]
        assert [status.version for status in app.registry.statuses("vae")] == ["1"]


def test_a_bundle_in_order_is_read(models: Path):
    bundle = read_bundle(models / "vae" / "1")
    assert set(bundle.graphs) == {"generator", "prior", "decoder", "encoder"}
    assert bundle.golden.images.shape == (16, 32, 32, 1)


def test_a_variant_that_a_bundle_does_not_have_is_refused(models: Path):
    with pytest.raises(BundleRefused, match="no generator of variant int8"):
        read_bundle(models / "vae" / "1", "int8")
