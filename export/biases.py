"""Taking back what quantisation does to the means of a graph's channels.

    exact graph, QDQ graph, inputs -> layer by layer, mean error of each channel -> subtracted from the int32 biases

Rounding errors of weights do not average out over images: they shift whole channels, in the end colours. Bias correction
(Nagel et al. 2019, section 4.2), by the outputs of both graphs. Costs nothing when the graph runs.
"""

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from export.sessions import Arrays
from export.tensors import tensors

BATCH = 64


def correct_biases(quantised: onnx.ModelProto, exact: onnx.ModelProto, inputs: Arrays) -> None:
    """Correct the biases of `quantised`, which onnxruntime's tool made of `exact`, in place.

    inputs: of both graphs by name, some hundred rows each.
    """
    constants = {tensor.name: tensor for tensor in quantised.graph.initializer}
    dequantised = {node.output[0]: node for node in quantised.graph.node if node.op_type == "DequantizeLinear"}
    biases = {
        node.output[0]: dequantised[node.input[2]]
        for node in quantised.graph.node
        if node.op_type in {"Conv", "Gemm"} and len(node.input) == 3 and node.input[2] in dequantised
    }
    exact_means = _means(exact, list(biases), inputs)
    for layers in _by_depth(exact, list(biases)):
        # The layers before are corrected by now, so that what is left is this one's.
        means = _means(quantised, layers, inputs)
        for layer in layers:
            bias, scale = (constants[name] for name in biases[layer].input[:2])
            steps = np.rint((exact_means[layer] - means[layer]) / numpy_helper.to_array(scale))
            corrected = (numpy_helper.to_array(bias) + steps).astype(np.int32)
            bias.CopyFrom(numpy_helper.from_array(corrected, bias.name))


def _by_depth(graph: onnx.ModelProto, outputs: list[str]) -> list[list[str]]:
    """`outputs` of layers, those first that depend on no other, then those that depend on these, and so on."""
    depths: dict[str, int] = {}
    for node in graph.graph.node:
        depth = max((depths.get(name, 0) for name in node.input), default=0)
        for name in node.output:
            depths[name] = depth + (name in outputs)
    levels = sorted({depths[name] for name in outputs})
    return [[name for name in outputs if depths[name] == level] for level in levels]


def _means(graph: onnx.ModelProto, names: list[str], inputs: Arrays) -> dict[str, npt.NDArray[np.float64]]:
    """Mean of each channel, axis 1, of the tensors `names`."""
    sums: dict[str, npt.NDArray[np.float64]] = {}
    for batch in tensors(graph, names, inputs, BATCH):
        for name, values in batch.items():
            other = tuple(axis for axis in range(values.ndim) if axis != 1)
            sums[name] = sums.get(name, 0) + values.mean(other, np.float64) * len(values)
    rows = len(next(iter(inputs.values())))
    return {name: total / rows for name, total in sums.items()}
