"""The fp16 form of a graph: of every role of every family, near the exact one, what becomes grey levels in fp32."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper

from evaluation import features
from export import publish, quality_gate
from export.bundle import read_manifest
from export.errors import VariantRefused
from export.fp16 import convert
from export.golden import golden_inputs
from export.graphs import OPSET, roles, to_onnx, to_proto
from export.optimise import optimise
from export.pixels import Pixels, append_bytes
from export.publish import Plan
from export.sessions import Arrays, run, session
from export.source import from_run
from figment.v1.manifest_pb2 import Measurement
from tests.fakes.servers import MODELS
from training.architecture import Architecture
from training.model import Model, ModelFacts

pytestmark = pytest.mark.slow

FLOAT = onnx.TensorProto.FLOAT
RANDOM = np.random.default_rng(0)


def assert_near(exact: onnx.ModelProto, inputs: Arrays) -> Arrays:
    """The outputs of `exact`, which its fp16 form gives too: images to a grey level, latents to fp16's 11 bits."""
    expected = run(session(exact), inputs)
    made = convert(exact, {})
    if made is None:
        return expected
    onnx.checker.check_model(made, full_check=True)
    assert [value.name for value in made.graph.output] == [value.name for value in exact.graph.output]
    for name, got in run(session(made), inputs).items():
        assert got.dtype == expected[name].dtype
        error = np.abs(got.astype(np.float64) - expected[name])
        if got.dtype == np.uint8:
            assert error.max() <= 1
            assert error.mean() < 0.05
        else:
            assert error.max() / np.abs(expected[name]).max() < 2**-10
    return expected


@pytest.mark.parametrize("name", MODELS)
def test_every_graph_of_every_family_is_near_the_exact_one(models: Path, name: str) -> None:
    folder = models / name / "1"
    manifest = read_manifest(folder)
    known = golden_inputs(16, manifest.noise_dim, len(manifest.labels))
    for role in ("prior", "decoder", "generator", "encoder"):
        if f"{role}.onnx" in manifest.graphs:
            graph = onnx.load(folder / f"{role}.onnx")
            known = assert_near(graph, {node.name: known[node.name] for node in graph.graph.input}) | known


@pytest.mark.parametrize("blocks", [0, 1])
def test_networks_for_colour_and_with_residual_blocks_are_near_the_exact_ones(blocks: int) -> None:
    torch.manual_seed(0)
    shape = Architecture(size=32, channels=3, latent_dim=8, width=16, labels=0, blocks=blocks)
    model = Model(ModelFacts("vae", shape, [], 0)).eval()
    known = golden_inputs(4, 8, 0)
    known["images"] = RANDOM.integers(0, 256, (4, 32, 32, 3), np.uint8)
    for role in roles(model):
        example = {"noise": torch.zeros(2, 8), "images": torch.zeros(2, 32, 32, 3, dtype=torch.uint8)}
        graph = to_onnx(role, {name: example[name] for name in role.inputs})
        optimise(graph)
        assert_near(to_proto(graph), {name: known[name] for name in role.inputs})


def drawing(names: bool) -> onnx.ModelProto:
    """Two layers, and two nodes after the last that share a constant with one in the middle."""
    weights = [
        numpy_helper.from_array(RANDOM.standard_normal((8, 48), np.float32), "first"),
        numpy_helper.from_array(RANDOM.standard_normal((48, 48), np.float32) / 7, "last"),
        numpy_helper.from_array(np.float32(0.5), "half"),
        numpy_helper.from_array(np.array([0, 3, 4, 4]), "shape"),
    ]
    nodes = [
        helper.make_node("MatMul", ["noise", "first"], ["a"]),
        helper.make_node("Mul", ["a", "half"], ["b"]),
        helper.make_node("MatMul", ["b", "last"], ["c"]),
        helper.make_node("Mul", ["c", "half"], ["d"]),
        helper.make_node("Add", ["d", "half"], ["e"]),
        helper.make_node("Reshape", ["e", "shape"], ["f"]),
    ]
    for place, node in enumerate(nodes):
        node.name = f"node{place}" if names else ""
    ends = (helper.make_tensor_value_info("noise", FLOAT, ["N", 8]), helper.make_tensor_value_info("f", FLOAT, None))
    ends[1].CopyFrom(helper.make_tensor_value_info("f", FLOAT, ["N", 3, 4, 4]))
    body = helper.make_graph(nodes, "drawing", ends[:1], ends[1:], weights)
    model = ir.serde.deserialize_model(
        helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    )
    append_bytes(model, Pixels())
    return to_proto(model)


@pytest.mark.parametrize("names", [True, False])
def test_what_follows_the_last_layer_is_in_fp32_and_constants_may_be_shared(names: bool) -> None:
    graph = drawing(names)
    assert_near(graph, golden_inputs(64, 8, 0))
    made = convert(graph, {})
    assert made is not None
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(made).graph.value_info
    }
    operators = [node.op_type for node in made.graph.node]
    after = made.graph.node[len(operators) - 1 - operators[::-1].index("MatMul") :]
    floats = {kinds[name] for node in after for name in node.output if name in kinds} - {onnx.TensorProto.UINT8}
    assert floats == {FLOAT}


def test_a_bundle_gets_a_variant_of_fp16(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(files: list[Path], device: str, labels: int) -> list[Measurement]:
        return [Measurement(graph=file.name, images_per_s=2 if "fp16" in file.name else 1) for file in files]

    monkeypatch.setattr(publish, "measure", measure)
    monkeypatch.setattr(quality_gate, "IMAGES_DRAWN", 1000)
    monkeypatch.setattr(features, "EPOCHS", 1)
    published = publish.publish(from_run(runs / "vae"), tmp_path, "m", Plan(variants=("fp16",)))
    assert published.left_out == []
    files = {"generator.fp16.onnx", "decoder.fp16.onnx", "encoder.fp16.onnx"}
    assert {file for file, graph in published.manifest.graphs.items() if graph.variant == "fp16"} == files
    for file in files:
        assert (published.folder / file).stat().st_size < 0.7 * (
            published.folder / file.replace(".fp16", "")
        ).stat().st_size


def test_a_graph_that_is_partly_in_fp16_is_left_as_it_is() -> None:
    graph = convert(drawing(names=True), {})
    assert graph is not None
    with pytest.raises(VariantRefused, match="parts of the graph are in fp16 already"):
        convert(graph, {})
