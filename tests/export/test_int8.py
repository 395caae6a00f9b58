"""The int8 form of a graph: what is quantised, by which ranges, and how near it stays."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from export.graphs import OPSET
from export.int8 import convert
from export.sessions import run, session

RANDOM = np.random.default_rng(0)
FLOAT, UINT8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8


def drawing(middle: str) -> onnx.ModelProto:
    """Two convolutions side by side, put together, and a third that gives grey levels after `middle`."""

    def conv(source: str, target: str, channels: int, inputs: int, bias: float = 0.0) -> onnx.NodeProto:
        weights.append(
            numpy_helper.from_array(RANDOM.standard_normal((channels, inputs, 3, 3), np.float32) / 3, f"{target}_w")
        )
        weights.append(numpy_helper.from_array(np.full(channels, bias, np.float32), f"{target}_b"))
        return helper.make_node("Conv", [source, f"{target}_w", f"{target}_b"], [target], target, pads=[1] * 4)

    weights = [numpy_helper.from_array(np.float32(1), "one"), numpy_helper.from_array(np.uint8(0), "zero")]
    nodes = [
        conv("x", "a", 8, 4),
        conv("x", "b", 8, 4, bias=5.0),
        helper.make_node("LeakyRelu", ["a"], ["a_on"], "a_on", alpha=0.2),
        helper.make_node("Relu", ["b"], ["b_on"], "b_on"),
        helper.make_node("Concat", ["a_on", "b_on"], ["both"], "both", axis=1),
        conv("both", "c", 3, 16, bias=128.0),
    ]
    if middle:
        nodes.append(helper.make_node(middle, ["c"], ["d"], "d"))
    nodes.append(helper.make_node("QuantizeLinear", ["d" if middle else "c", "one", "zero"], ["images"], "images"))
    body = helper.make_graph(
        nodes,
        "drawing",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 4, 8, 8])],
        [helper.make_tensor_value_info("images", UINT8, ["N", 3, 8, 8])],
        weights,
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def noise(rows: int = 128) -> dict[str, np.ndarray]:
    return {"x": RANDOM.standard_normal((rows, 4, 8, 8), np.float32)}


def quantised(graph: onnx.ModelProto) -> onnx.ModelProto:
    made = convert(graph, noise())
    assert made is not None
    onnx.checker.check_model(made, full_check=True)
    return made


def operators(graph: onnx.ModelProto, folder: Path) -> Counter[str]:
    """What onnxruntime makes of it."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def scale_of(graph: onnx.ModelProto, tensor: str) -> float:
    node = next(node for node in graph.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == tensor)
    constants = {each.name: numpy_helper.to_array(each) for each in graph.graph.initializer}
    return float(constants[node.input[1]])


def test_onnxruntime_runs_every_heavy_layer_in_integers(tmp_path: Path):
    found = operators(quantised(drawing("")), tmp_path)
    assert found["QLinearConv"] == 3
    assert found["Conv"] == 0
    # One at the beginning: the last convolution gives grey levels itself.
    assert found["QuantizeLinear"] == 1
    assert found["DequantizeLinear"] == 0


def test_the_images_stay_near():
    graph = drawing("")
    given = noise()
    exact, lossy = (run(session(each), given)["images"].astype(float) for each in (graph, quantised(graph)))
    assert 0 < np.abs(exact - lossy).max() <= 3
    assert np.abs(exact - lossy).mean() < 0.5


def test_the_means_of_the_channels_stay():
    graph = drawing("")
    given = noise(512)
    made = convert(graph, given)
    assert made is not None
    means = [run(session(each), given)["images"].mean((0, 2, 3)) for each in (graph, made)]
    np.testing.assert_allclose(*means, atol=0.03)


def test_what_is_put_together_has_one_scale():
    made = quantised(drawing(""))
    scales = {tensor: scale_of(made, tensor) for tensor in ("a_on", "b_on", "both")}
    assert len(set(scales.values())) == 1, scales
    assert scale_of(made, "a") != scales["both"]


def test_two_products_side_by_side_fit_into_sixteen_bits():
    weights = [numpy_helper.to_array(each) for each in quantised(drawing("")).graph.initializer if len(each.dims) == 4]
    assert len(weights) == 3
    for array in weights:
        assert array.dtype == np.int8
        rows = np.abs(array.astype(int)).transpose(0, 2, 3, 1).reshape(len(array), -1)
        sums = rows[:, ::2] + rows[:, 1::2]
        assert 255 * sums.max() <= 32767
        assert 255 * (sums.max(1).min() + 2) > 32767 * 0.98


def test_products_that_would_overflow_are_as_exact_as_others():
    graph = drawing("")
    for tensor in graph.graph.initializer:
        if tensor.name == "c_w":  # all weights as large as the largest: the worst for sums of two
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.sign(array) * np.float32(0.5), "c_w"))
    given = {"x": np.abs(noise()["x"])}
    exact, lossy = (run(session(each), given)["images"].astype(float) for each in (graph, quantised(graph)))
    assert np.abs(exact - lossy).max() <= 4


def test_a_layer_before_a_steep_function_stays_in_floats(tmp_path: Path):
    found = operators(quantised(drawing("Tanh")), tmp_path)
    assert found["QLinearConv"] == 2
    assert found["Conv"] + found["FusedConv"] == 1


def test_rows_are_the_same_bytes_in_any_batch():
    graph = session(quantised(drawing("")))
    given = noise(64)["x"]
    whole = run(graph, {"x": given})["images"]
    for size in (1, 3, 7):
        pieces = [run(graph, {"x": given[start : start + size]})["images"] for start in range(0, 64, size)]
        assert np.concatenate(pieces).tobytes() == whole.tobytes()


def test_the_graph_given_is_left_as_it_was():
    graph = drawing("")
    before = graph.SerializeToString(deterministic=True)
    quantised(graph)
    assert graph.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("operator", ["Tanh", "Identity"])
def test_a_graph_without_layers_has_no_int8_form(operator: str):
    body = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"])],
        "empty",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 4, 8, 8])],
        [helper.make_tensor_value_info("y", FLOAT, ["N", 4, 8, 8])],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    assert convert(model, noise()) is None
