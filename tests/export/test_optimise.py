"""The exact rewrites: what a graph gives stays, what it is made of is what onnxruntime runs fast."""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper
from torch.nn import functional

from export.graphs import OPSET, to_proto
from export.optimise import optimise
from export.pixels import Pixels, append_bytes, to_bytes
from export.sessions import run, session

RANDOM = np.random.default_rng(0)


class Net:
    """A chain of ONNX nodes from x to y, float32."""

    def __init__(self, *shape: int) -> None:
        self._shape = ["N", *shape]
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._last = "x"

    def then(self, operator: str, *weights: Any, **attributes: Any) -> "Net":
        """One more node; weights are arrays or shapes to draw them of."""
        names = []
        for weight in weights:
            array = weight if isinstance(weight, np.ndarray) else RANDOM.standard_normal(weight, np.float32) / 8
            names.append(f"w{len(self._weights)}")
            self._weights.append(numpy_helper.from_array(array, names[-1]))
        output = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, [self._last, *names], [output], output, **attributes))
        self._last = output
        return self

    def model(self, *shape: int) -> ir.Model:
        """The graph, which gives (N, *shape)."""
        body = helper.make_graph(
            self._nodes,
            "net",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, self._shape)],
            [helper.make_tensor_value_info(self._last, onnx.TensorProto.FLOAT, ["N", *shape])],
            self._weights,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return ir.serde.deserialize_model(helper.make_model(body, opset_imports=opsets, ir_version=10))


def outputs(model: ir.Model, x: np.ndarray) -> np.ndarray:
    (value,) = run(session(to_proto(model)), {"x": x}).values()
    return value


def check_same(net: Net, shape: tuple[int, ...], given: tuple[int, ...]) -> Counter[str]:
    """The rewritten graph gives what it gave before; returns its operators."""
    model = net.model(*given)
    x = RANDOM.standard_normal((3, *shape), np.float32)
    before = outputs(model, x)
    ends = [(value.name, value.dtype, str(value.shape)) for value in (*model.graph.inputs, *model.graph.outputs)]
    optimise(model)
    np.testing.assert_allclose(outputs(model, x), before, atol=1e-5 * np.abs(before).max())
    assert [
        (value.name, value.dtype, str(value.shape)) for value in (*model.graph.inputs, *model.graph.outputs)
    ] == ends
    return Counter(node.op_type for node in model.graph)


def grown(size: int, kernel: int, stride: int, padding: int, added: int) -> int:
    return (size - 1) * stride - 2 * padding + kernel + added


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "added"),
    [(4, 2, 1, 0), (3, 2, 1, 1), (2, 2, 0, 0), (6, 2, 2, 0), (5, 2, 2, 1), (3, 3, 0, 0), (6, 3, 2, 1), (4, 4, 0, 0)],
)
@pytest.mark.parametrize("activation", ["", "LeakyRelu", "Relu"])
def test_a_transposed_convolution_is_plain_ones_that_interlace(
    kernel: int, stride: int, padding: int, added: int, activation: str
):
    net = Net(5, 6, 7).then(
        "ConvTranspose",
        (5, 8, kernel, kernel),
        (8,),
        strides=[stride] * 2,
        pads=[padding] * 4,
        output_padding=[added] * 2,
        auto_pad="NOTSET",
    )
    if activation:
        net.then(activation)
    given = (8, *(grown(size, kernel, stride, padding, added) for size in (6, 7)))
    found = check_same(net, (5, 6, 7), given)
    assert found["ConvTranspose"] == 0
    assert found["Conv"] == stride**2
    assert found[activation] == (stride**2 if activation else 0)


def test_the_rewrite_is_torchs_transposed_convolution():
    weights, bias = RANDOM.standard_normal((5, 8, 4, 4), np.float32), RANDOM.standard_normal(8, np.float32)
    x = RANDOM.standard_normal((2, 5, 6, 6), np.float32)
    model = Net(5, 6, 6).then("ConvTranspose", weights, bias, strides=[2, 2], pads=[1] * 4).model(8, 12, 12)
    optimise(model)
    wanted = functional.conv_transpose2d(*map(torch.from_numpy, (x, weights, bias)), stride=2, padding=1)
    np.testing.assert_allclose(outputs(model, x), wanted.numpy(), atol=1e-4)


def test_rows_and_columns_may_differ():
    net = Net(3, 5, 4).then("ConvTranspose", (3, 8, 4, 3), strides=[2, 3], pads=[1, 0, 1, 0])
    assert check_same(net, (3, 5, 4), (8, 10, 12))["Conv"] == 6


@pytest.mark.parametrize(
    ("channels", "kernel", "given", "attributes"),
    [
        (3, 4, (3, 10, 10), {"strides": [2, 2], "pads": [1] * 4}),
        (8, 4, (16, 10, 10), {"strides": [2, 2], "pads": [1] * 4, "group": 2}),
        (8, 3, (8, 9, 9), {"strides": [2, 2], "pads": [2] * 4, "dilations": [2, 2]}),
        (8, 4, (8, 16, 16), {"strides": [3, 3]}),
        (8, 1, (8, 10, 10), {"strides": [2, 2], "output_padding": [1, 1]}),
        (8, 4, (8, 10, 10), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ],
    ids=["few channels", "groups", "dilation", "phases of two sizes", "phases without kernel", "padding by rule"],
)
def test_other_transposed_convolutions_stay(channels: int, kernel: int, given: tuple[int, ...], attributes: Any):
    net = Net(8, 5, 5).then("ConvTranspose", (8, channels, kernel, kernel), **attributes)
    assert check_same(net, (8, 5, 5), given)["ConvTranspose"] == 1


def test_a_transposed_convolution_of_one_pixel_is_a_product():
    found = check_same(Net(20, 1, 1).then("ConvTranspose", (20, 8, 4, 4), (8,)), (20, 1, 1), (8, 4, 4))
    assert (found["ConvTranspose"], found["Conv"], found["Gemm"]) == (0, 0, 1)


def test_batch_norms_are_folded():
    def norm(net: Net, channels: int) -> Net:
        return net.then(
            "BatchNormalization", (channels,), (channels,), (channels,), RANDOM.random(channels, np.float32)
        )

    net = norm(Net(20, 1, 1).then("ConvTranspose", (20, 16, 4, 4)), 16).then("Relu")
    net = norm(net.then("ConvTranspose", (16, 8, 4, 4), strides=[2, 2], pads=[1] * 4), 8).then("Relu")
    net = norm(net.then("Conv", (3, 8, 3, 3), pads=[1] * 4), 3)
    found = check_same(net, (20, 1, 1), (3, 8, 8))
    assert found["BatchNormalization"] == 0
    assert found["Conv"] == 5


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_levels_are_rounded_before_they_are_moved(channels: int):
    net = Net(4, 5, 6).then("Conv", (4 * channels, 4, 3, 3), (4 * channels,), pads=[1] * 4)
    model = net.then("DepthToSpace", blocksize=2, mode="CRD").model(channels, 10, 12)
    x = RANDOM.standard_normal((4, 4, 5, 6), np.float32) / 10
    pixels = Pixels()
    wanted = to_bytes(pixels.grey_levels(outputs(model, x)))
    append_bytes(model, pixels)
    optimise(model)
    kinds = [node.op_type for node in model.graph]
    assert kinds[:3] == ["Conv", "QuantizeLinear", "Transpose"]
    assert not {"Mul", "Add", "DepthToSpace"} & set(kinds)
    got = outputs(model, x)
    assert got.shape == (4, 10, 12, channels)
    assert np.abs(got.astype(int) - wanted).max() <= 1
    assert (got != wanted).mean() < 0.01


@pytest.mark.parametrize(
    ("pixels", "value", "grey"),
    [
        (Pixels(), 0.0, 128),
        (Pixels(), -1.5, 0),
        (Pixels("NCHW", 0, 1), 0.5, 128),
        (Pixels("NCHW", 0, 255), 2.5, 2),
        (Pixels("NCHW", 0, 255), 3.5, 4),
        (Pixels("NHWC", 0, 255), 256.0, 255),
    ],
)
def test_images_are_rounded_half_to_even_and_clamped(pixels: Pixels, value: float, grey: int):
    shape = (3, 2, 2) if pixels.layout == "NCHW" else (2, 2, 3)
    model = Net(*shape).then("Identity").model(*shape)
    append_bytes(model, pixels)
    x = np.full((2, *shape), value, np.float32)
    images = outputs(model, x)
    assert images.shape == (2, 2, 2, 3)
    assert images.dtype == np.uint8
    assert (images == grey).all()
    assert (to_bytes(pixels.grey_levels(x)) == grey).all()


def test_a_dcgan_keeps_no_transposed_convolution_but_the_last():
    widths = (20, 32, 16, 8)
    net = Net(20, 1, 1)
    for level, (before, after) in enumerate(pairwise(widths)):
        stride, padding = (1, 0) if level == 0 else (2, 1)
        net.then("ConvTranspose", (before, after, 4, 4), strides=[stride] * 2, pads=[padding] * 4).then("Relu")
    net.then("ConvTranspose", (8, 3, 4, 4), strides=[2, 2], pads=[1] * 4).then("Tanh")
    found = check_same(net, (20, 1, 1), (3, 32, 32))
    assert found["ConvTranspose"] == 1
