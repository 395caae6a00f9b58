"""The int8 form of a graph: static quantisation by onnxruntime's own tool, with ranges chosen here.

    graph, calibration inputs -> ranges of tensors -> groups that share one -> quantize_static -> biases corrected

Activations are uint8, one scale a tensor; weights int8, one scale an output channel, chosen so that no sum of two
products overflows 16 bits, in which processors without VNNI add them. Sums are integers, so a row is the same bytes in
any batch and, but for the fp32 layers at the ends, on any processor. Knows ONNX and onnxruntime, no model.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from export.biases import correct_biases
from export.sessions import Arrays, split
from export.tensors import tensors

DEVICE = "cpu"

WEIGHTED = frozenset({"Conv", "Gemm"})
ACTIVATIONS = frozenset({"LeakyRelu", "Relu"})
LAYOUT = frozenset({"Reshape", "Transpose", "Concat", "Split", "DepthToSpace"})

HEAVY = 0.01
"""Part of a graph's multiplications from which on a layer is worth quantising."""

CALIBRATION_BATCH = 64

Ranges = dict[str, list[dict[str, Any]]]
"""By tensor, or by tensor and channel: the values between which it is quantised."""


def convert(exact: onnx.ModelProto, inputs: Arrays) -> onnx.ModelProto | None:
    """The int8 form of `exact`, its ranges those of `inputs`; None where it has no layer worth quantising.

    inputs: of the graph by name, some hundred rows each.
    """
    graph = onnx.ModelProto.FromString(exact.SerializeToString())  # The tool changes what it is given.
    nodes = graph.graph.node
    users = {name: [node for node in nodes if name in node.input] for node in nodes for name in node.output}
    layers = [node for node in _heavy(graph) if all(_takes_int8(user) for user in users[node.output[0]])]
    if not layers:
        return None
    outputs = {name for node in layers for name in node.output}
    activations = [node for node in nodes if node.op_type in ACTIVATIONS and node.input[0] in outputs]
    layout = [node for node in nodes if node.op_type in LAYOUT]
    # The tool warns of graphs that its own preparation has not been over; this one is optimised and has its shapes.
    onnx.helper.set_model_props(graph, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory(prefix="figment-int8-") as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            graph,
            path,
            _Calibration(inputs),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_quantize=[node.name for node in (*layers, *activations, *layout)],
            extra_options={"TensorQuantOverrides": _shared_ranges(graph, inputs) | _weight_ranges(graph, layers)},
        )
        quantised = onnx.load(path)
    del quantised.metadata_props[:]
    correct_biases(quantised, exact, inputs)
    return quantised


def _takes_int8(user: onnx.NodeProto) -> bool:
    """Whether the 8 bits that a layer gives are enough for `user`: not for a tanh, whose middle is steep."""
    return user.op_type in ACTIVATIONS | WEIGHTED | LAYOUT | {"QuantizeLinear"}


def _heavy(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Layers of known weights that do at least HEAVY of the graph's multiplications."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.graph.initializer}
    shapes = {value.name: value.type.tensor_type.shape for value in graph.graph.value_info}
    work: dict[str, int] = {}
    for node in graph.graph.node:
        if node.op_type in {"Conv", "Gemm", "ConvTranspose"} and node.input[1] in weights:
            # A weight of a Conv meets every place of its output, one of a ConvTranspose every place of its input.
            shape = shapes.get(node.input[0] if node.op_type == "ConvTranspose" else node.output[0])
            places = [dim.dim_value for dim in shape.dim][2:] if shape is not None else []
            work[node.name] = int(np.prod([*weights[node.input[1]], *places]))
    least = HEAVY * sum(work.values())
    return [node for node in graph.graph.node if node.op_type in WEIGHTED and work.get(node.name, 0) >= max(least, 1)]


def _shared_ranges(graph: onnx.ModelProto, inputs: Arrays) -> Ranges:
    """Ranges of tensors that must have the same: all that are put together into one, so that bytes can be moved as they are.

    What is rounded to grey levels anyway has the range of grey levels, and is rounded once.
    """
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while name in parents:
            name = parents[name]
        return name

    for node in graph.graph.node:
        if node.op_type in LAYOUT:
            for name in node.input if node.op_type == "Concat" else node.input[:1]:
                for output in node.output:
                    if root(name) != root(output):
                        parents[root(name)] = root(output)
    groups: dict[str, list[str]] = {}
    for node in graph.graph.node:
        for name in node.output:
            groups.setdefault(root(name), []).append(name)
    together = [names for names in groups.values() if len(names) > 1]
    sources = {node.output[0] for node in graph.graph.node if node.op_type not in LAYOUT}
    watched = [name for names in together for name in names if name in sources]
    measured = _ranges(graph, watched, inputs)
    ranges: Ranges = {}
    for names in together:
        limits = [measured[name] for name in names if name in measured]
        if limits:
            low, high = min(low for low, _ in limits), max(high for _, high in limits)
            ranges |= {name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name in names}
    for node in graph.graph.node:
        if node.op_type == "QuantizeLinear":
            ranges[node.input[0]] = [{"rmin": np.float32(0), "rmax": np.float32(255)}]
    return ranges


def _weight_ranges(graph: onnx.ModelProto, layers: list[onnx.NodeProto]) -> Ranges:
    """Per output channel, the largest sum of the sizes of two weights that are multiplied side by side.

    As 127 steps, such a sum stays below 128 after rounding, and 128 * 255 fits into 16 bits. 7 bits for each weight, the
    usual way, would waste what neighbours leave: sums are some 1.4 times the largest weight, not twice.
    """
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    ranges: Ranges = {}
    for node in layers:
        array = np.abs(numpy_helper.to_array(weights[node.input[1]]))
        # The kernels take a pixel's channels one after the other, for each place of the kernel.
        axis = 0 if node.op_type == "Conv" or any(each.name == "transB" and each.i for each in node.attribute) else 1
        rows = np.moveaxis(array, 1, -1) if node.op_type == "Conv" else np.moveaxis(array, axis, 0)
        rows = rows.reshape(len(rows), -1)
        rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
        largest = (rows[:, ::2] + rows[:, 1::2]).max(1)
        ranges[node.input[1]] = [{"rmin": -limit, "rmax": limit} for limit in largest]
        ranges[node.input[1]][0]["axis"] = axis
    return ranges


def _ranges(graph: onnx.ModelProto, names: list[str], inputs: Arrays) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of each floating-point tensor among `names`."""
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.graph.value_info}
    names = [name for name in names if kinds.get(name) == onnx.TensorProto.FLOAT]
    ranges: dict[str, tuple[float, float]] = {}
    for batch in tensors(graph, names, inputs, CALIBRATION_BATCH):
        for name, values in batch.items():
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = min(low, float(values.min())), max(high, float(values.max()))
    return ranges


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    """The inputs, batch by batch."""

    def __init__(self, inputs: Arrays) -> None:
        self._batches = split(inputs, CALIBRATION_BATCH)

    def get_next(self) -> Arrays | None:
        return next(self._batches, None)
