"""Which variant of a version is served: by what was asked for, by what was measured, and what is refused."""

import hashlib
import json
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest

from export.golden import GOLDEN_SEED
from figment.v1 import image_service_pb2 as pb
from figment.v1 import model_service_pb2
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from figment.v1.manifest_pb2 import Graph, Manifest, Measurement
from figment.v1.model_service_pb2 import VersionState
from figment.v1.model_service_pb2_grpc import ModelServiceStub
from server.errors import BundleRefused
from server.models.bundle import read_bundle
from server.models.variants import files_of, resolve
from server.runtime.devices import CPU, CUDA
from server.runtime.engine import Engine
from tests.fakes.servers import running_server

GENERATORS = {"generator.onnx": "fp32", "generator.int8.onnx": "int8", "generator.fp16.onnx": "fp16"}


def measured(variant: str, images_per_s: float, provider: str = CPU, threads: int = 1, size: int = 64) -> Measurement:
    file = next(file for file, of in GENERATORS.items() if of == variant)
    return Measurement(
        graph=file, provider=provider, threads=threads, batch_size=size, images_per_s=images_per_s, machine="m"
    )


def manifest_of(*measurements: Measurement, **more: Graph) -> Manifest:
    """Three generators, and `more` graphs by name without its ending."""
    generators = {file: Graph(role="generator", variant=variant) for file, variant in GENERATORS.items()}
    others = {f"{name.replace('_', '.')}.onnx": graph for name, graph in more.items()}
    return Manifest(graphs={**generators, **others}, measured=measurements)


def test_the_fastest_on_the_engines_provider_is_served():
    manifest = manifest_of(
        measured("fp32", 100), measured("int8", 190), measured("fp16", 50),
        measured("fp32", 1000, CUDA), measured("int8", 700, CUDA), measured("fp16", 1900, CUDA),
    )  # fmt: skip
    assert resolve(manifest, "auto", CPU) == "int8"
    assert resolve(manifest, "auto", CUDA) == "fp16"


def test_fp32_is_served_where_nothing_was_measured():
    assert resolve(manifest_of(), "auto", CPU) == "fp32"
    assert resolve(manifest_of(measured("fp32", 1, CUDA), measured("int8", 9, CUDA)), "auto", CPU) == "fp32"


@pytest.mark.parametrize("figure", [0.0, -1.0, float("inf"), float("nan"), 100.0])
def test_fp32_is_served_where_no_figure_is_better(figure: float):
    assert resolve(manifest_of(measured("fp32", 100), measured("int8", figure)), "auto", CPU) == "fp32"
    assert resolve(manifest_of(measured("int8", figure), measured("fp32", 100)), "auto", CPU) == "fp32"


def test_the_best_batch_size_of_each_variant_counts():
    manifest = manifest_of(
        measured("fp32", 90, size=1), measured("fp32", 200, size=64),
        measured("int8", 120, size=1), measured("int8", 190, size=64),
    )  # fmt: skip
    assert resolve(manifest, "auto", CPU) == "fp32"


def test_only_figures_of_settings_that_fp32_has_too_are_compared():
    faster_elsewhere = measured("int8", 900, threads=8)
    assert resolve(manifest_of(measured("fp32", 100), faster_elsewhere), "auto", CPU) == "fp32"
    both = measured("fp32", 100), measured("int8", 120), measured("fp32", 800, threads=8), faster_elsewhere
    assert resolve(manifest_of(*both), "auto", CPU) == "int8"


def test_a_variant_that_is_slower_in_one_of_the_settings_is_not_the_fastest():
    figures = measured("fp32", 100), measured("int8", 190), measured("fp32", 500, threads=8)
    assert resolve(manifest_of(*figures, measured("int8", 400, threads=8)), "auto", CPU) == "fp32"


def test_figures_of_other_graphs_than_generators_say_nothing():
    manifest = manifest_of(measured("fp32", 100), encoder=Graph(role="encoder", variant="int8"))
    for file in ("encoder.onnx", "gone.onnx"):
        manifest.measured.append(Measurement(graph=file, machine="m", threads=1, provider=CPU, images_per_s=900))
    assert resolve(manifest, "auto", CPU) == "fp32"
    assert "gone.onnx" not in manifest.graphs


def test_graphs_are_those_of_the_variant_and_fp32_where_it_has_none():
    manifest = manifest_of(
        encoder=Graph(role="encoder", variant="fp32"),
        encoder_fp16=Graph(role="encoder", variant="fp16"),
        prior=Graph(role="prior", variant="fp32"),
    )
    assert files_of(manifest, "fp16") == {
        "generator": "generator.fp16.onnx", "encoder": "encoder.fp16.onnx", "prior": "prior.onnx"
    }  # fmt: skip
    assert files_of(manifest, "int8")["encoder"] == "encoder.onnx"
    assert files_of(manifest, "fp32")["generator"] == "generator.onnx"


def test_a_decoder_of_another_variant_than_the_generator_is_refused():
    manifest = manifest_of(measured("fp32", 1), measured("int8", 9), decoder=Graph(role="decoder", variant="fp32"))
    for asked in ("int8", "auto"):
        with pytest.raises(
            BundleRefused, match=r"of variant int8, so the decoder must be; there is only decoder\.onnx"
        ):
            resolve(manifest, asked, CPU)
    assert resolve(manifest, "fp32", CPU) == "fp32"


def test_a_variant_that_is_not_there_is_refused_with_those_that_are():
    manifest = manifest_of()
    del manifest.graphs["generator.fp16.onnx"]
    with pytest.raises(BundleRefused, match="no generator of variant fp16; there are fp32, int8"):
        resolve(manifest, "fp16", CPU)


def edit(version: Path, change: Callable[[dict], object]) -> None:
    manifest = json.loads((version / "manifest.json").read_text())
    change(manifest)
    (version / "manifest.json").write_text(json.dumps(manifest))


def keep_fp32(manifest: dict) -> None:
    """Leave nothing of what the export may have made of the model beside fp32."""
    exact = {file: graph for file, graph in manifest["graphs"].items() if graph["variant"] == "fp32"}
    manifest.update(graphs=exact, measured=[])


def add_int8(version: Path) -> None:
    """Give a bundle a variant int8 that draws the negatives of its images."""
    entries = {}
    for role in ("generator", "decoder"):
        if not (version / f"{role}.onnx").exists():
            continue
        model = onnx.load(version / f"{role}.onnx")
        last = next(node for node in model.graph.node if "images" in node.output)
        last.output[list(last.output).index("images")] = "positives"
        model.graph.node.append(onnx.helper.make_node("BitwiseNot", ["positives"], ["images"]))
        path = version / f"{role}.int8.onnx"
        onnx.save(model, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        entries[path.name] = {"role": role, "variant": "int8", "sha256": digest}
    edit(version, lambda manifest: manifest["graphs"].update(entries))
    arrays = dict(np.load(version / "golden.npz"))
    arrays |= {"images_int8": 255 - arrays["images"], "tolerance_int8": arrays["tolerance"]}
    np.savez(version / "golden.npz", **arrays)


def measure(version: Path, **rates: float) -> None:
    """Have images a second by variant in the manifest."""
    files = {variant: file for file, variant in GENERATORS.items()}
    figures = [{"graph": files[v], "provider": CPU, "threads": 1, "images_per_s": rate} for v, rate in rates.items()]
    edit(version, lambda manifest: manifest.update(measured=figures))


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """Models `vae`, of variants fp32 and int8, and `gan`, of fp32 only."""
    for name in ("vae", "gan"):
        shutil.copytree(models / name, tmp_path / name)
        edit(tmp_path / name / "1", keep_fp32)
    add_int8(tmp_path / "vae" / "1")
    return tmp_path


def draw(stub: ImageServiceStub, model: str = "vae", seed: int = GOLDEN_SEED, count: int = 16) -> np.ndarray:
    batch = stub.Generate(pb.GenerateRequest(model=model, seed=seed, count=count)).images
    return np.frombuffer(batch.data[0], np.uint8).reshape(batch.count, batch.height, batch.width, batch.channels)


def test_fp32_is_served_unless_another_variant_is_asked_for(folder: Path):
    measure(folder / "vae" / "1", fp32=1, int8=9)
    with running_server(folder) as app, grpc.insecure_channel(app.address) as channel:
        drawn = draw(ImageServiceStub(channel))
        assert app.registry["vae", ""].variant == "fp32"
    assert np.array_equal(drawn, np.load(folder / "vae" / "1" / "golden.npz")["images"])


def test_a_variant_asked_for_is_served_and_versions_without_it_are_refused(folder: Path):
    with running_server(folder, variant="int8") as app, grpc.insecure_channel(app.address) as channel:
        stub = ImageServiceStub(channel)
        drawn = draw(stub)
        assert app.registry["vae", ""].variant == "int8"
        info = {"model": "vae", "version": "1", "family": "vae", "provider": CPU, "variant": "int8"}
        assert app.metrics.registry.get_sample_value("figment_model_info", info) == 1
        with pytest.raises(grpc.RpcError, match="no generator of variant int8; there are fp32") as refused:
            draw(stub, "gan")
        listed = ModelServiceStub(channel).ListModels(model_service_pb2.ListModelsRequest())
    assert np.array_equal(drawn, np.load(folder / "vae" / "1" / "golden.npz")["images_int8"])
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    states = {model.name: model.versions[0].state for model in listed.models}
    assert states == {"gan": VersionState.VERSION_STATE_FAILED, "vae": VersionState.VERSION_STATE_READY}


def test_with_auto_each_model_is_served_as_what_was_measured_to_be_its_fastest(folder: Path):
    add_int8(folder / "gan" / "1")
    measure(folder / "vae" / "1", fp32=100, int8=190)
    measure(folder / "gan" / "1", fp32=100, int8=90)
    with running_server(folder, variant="auto") as app:
        assert {name: app.registry[name, ""].variant for name in app.registry.names} == {
            "gan": "fp32", "vae": "int8"
        }  # fmt: skip


@pytest.mark.parametrize("engines", ["own", "shared"])
def test_gateways_serve_all_roles_of_the_variant(folder: Path, engines: str):
    with (
        running_server(folder, variant="int8", gateways=2, engines=engines) as several,
        grpc.insecure_channel(several.address) as channel,
        urllib.request.urlopen(f"http://{several.metrics_address}/metrics") as page,
    ):
        assert 'variant="int8"' in page.read().decode()
        stub = ImageServiceStub(channel)
        ends = [pb.Endpoint(seeded=pb.SeededImage(seed=seed)) for seed in (1, 2)]
        between = stub.Interpolate(pb.InterpolateRequest(model="vae", start=ends[0], end=ends[1], steps=2)).images
        golden = stub.Generate(pb.GenerateRequest(model="vae", seed=GOLDEN_SEED, count=16)).images
        assert stub.Reconstruct(pb.ReconstructRequest(model="vae", images=golden)).images.count == 16
        first, last = draw(stub, seed=1, count=1), draw(stub, seed=2, count=1)
    assert golden.data[0] == np.load(folder / "vae" / "1" / "golden.npz")["images_int8"].tobytes()
    assert between.data[0] == first.tobytes() + last.tobytes()


def test_variants_have_golden_images_of_their_own(folder: Path):
    bundle = read_bundle(folder / "vae" / "1", "int8")
    assert set(bundle.graphs) == {"generator", "prior", "decoder", "encoder"}
    assert np.array_equal(bundle.golden.images, 255 - read_bundle(folder / "vae" / "1").golden.images)


GOLDEN: dict[str, tuple[dict[str, object], str]] = {
    "no images": ({"images_int8": None}, "there is no images_int8, which variant int8 must have"),
    "no tolerance": ({"tolerance_int8": None}, "there is no tolerance_int8, which variant int8 must have"),
    "images of fewer rows": ({"images_int8": np.zeros((3, 32, 32, 1), np.uint8)}, r"noise is float32 \(16, 17\)"),
    "images of floats": ({"images_int8": np.zeros((16, 32, 32, 1))}, "images_int8 is float64"),
    "too large a tolerance": ({"tolerance_int8": np.float32(9)}, "tolerance_int8 is 9.0, allowed are 0 to 8"),
}


@pytest.mark.parametrize("damage", GOLDEN)
def test_golden_images_of_a_variant_are_checked_as_those_of_fp32(folder: Path, damage: str):
    changed, reason = GOLDEN[damage]
    version = folder / "vae" / "1"
    arrays = {**np.load(version / "golden.npz"), **changed}
    np.savez(version / "golden.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(BundleRefused, match=f"golden.npz: {reason}"):
        read_bundle(version, "int8")
    assert read_bundle(version, "fp32").variant == "fp32"


def test_a_variant_that_is_off_its_golden_images_is_refused(folder: Path):
    version = folder / "vae" / "1"
    arrays = dict(np.load(version / "golden.npz"))
    np.savez(version / "golden.npz", **{**arrays, "images_int8": arrays["images"]})
    engine = Engine("cpu", threads=1)
    with pytest.raises(BundleRefused, match="generator: off the golden images by"):
        engine.load(read_bundle(version, "int8"))
    engine.load(read_bundle(version, "fp32"))


def test_files_of_variants_that_are_not_served_are_checked_too(folder: Path):
    (folder / "vae" / "1" / "generator.int8.onnx").write_bytes(b"")
    with pytest.raises(BundleRefused, match=r"generator\.int8\.onnx is damaged"):
        read_bundle(folder / "vae" / "1", "fp32")


def test_an_unknown_variant_is_refused(folder: Path):
    edit(folder / "vae" / "1", lambda m: m["graphs"]["generator.int8.onnx"].update(variant="int4"))
    with pytest.raises(BundleRefused, match=r"generator\.int8\.onnx: variant 'int4' is none of fp32, fp16, int8"):
        read_bundle(folder / "vae" / "1")


def test_engines_of_two_variants_have_two_fingerprints(folder: Path):
    version = folder / "vae" / "1"
    for file in ("generator.int8.onnx", "decoder.int8.onnx"):
        exact = file.replace("int8.", "")
        shutil.copy(version / exact, version / file)
        edit(version, lambda m, file=file, exact=exact: m["graphs"][file].update(sha256=m["graphs"][exact]["sha256"]))
    engine = Engine("cpu", threads=1)
    exact, other = (engine.fingerprint(read_bundle(version, asked)) for asked in ("fp32", "int8"))
    assert exact != other, "the variant counts even where the graphs are the same"
