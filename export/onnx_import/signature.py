"""The inputs and the output of a generator from elsewhere, by their roles in a bundle.

model, names of its classes -> signature_of() -> Signature: noise [, label] -> pixels
"""

from collections.abc import Sequence
from typing import NamedTuple

import onnx

from export.errors import ImportRefused
from export.onnx_import.file import described
from export.sessions import Arrays


class Signature(NamedTuple):
    """The file's tensors by their roles. noise_shape: the sizes of noise after its batch, Z, or Z, 1, 1."""

    noise: onnx.ValueInfoProto
    label: onnx.ValueInfoProto | None
    pixels: onnx.ValueInfoProto
    noise_shape: list[int]

    def feed(self, inputs: Arrays) -> Arrays:
        """A bundle's inputs under the names and in the shapes of the file's own."""
        noise = inputs["noise"]
        feed = {self.noise.name: noise.reshape(len(noise), *self.noise_shape)}
        return feed if self.label is None else {**feed, self.label.name: inputs["label"]}


def signature_of(model: onnx.ModelProto, labels: Sequence[str]) -> Signature:
    """labels: names of the classes. Raises: ImportRefused, if the tensors are none of a generator, or a label is missing."""
    inputs = list(model.graph.input)
    noise = [value for value in inputs if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    label = [value for value in inputs if value.type.tensor_type.elem_type == onnx.TensorProto.INT64]
    if len(noise) != 1 or len(label) > 1 or len(noise) + len(label) != len(inputs):
        raise ImportRefused(
            f"inputs: got {described(inputs)}; allowed are noise, float32 (N, Z) or (N, Z, 1, 1), and a label, int64 (N,)"
        )
    if len(model.graph.output) != 1:
        raise ImportRefused(f"outputs: got {described(model.graph.output)}; allowed is one, the images")
    if bool(label) != bool(labels):
        problem = (
            "has an input for a label: --labels tells the names of its classes" if label else "has no input for a label"
        )
        raise ImportRefused(f"labels: got {len(labels)}, but the graph {problem}")
    noise_shape = _noise_shape(noise[0])
    if label and len(label[0].type.tensor_type.shape.dim) != 1:
        raise ImportRefused(f"label: got {described(label)}; allowed is int64 (N,), one number a row")
    return Signature(noise[0], label[0] if label else None, model.graph.output[0], noise_shape)


def _noise_shape(noise: onnx.ValueInfoProto) -> list[int]:
    sizes = [dim.dim_value for dim in noise.type.tensor_type.shape.dim][1:]
    if not sizes or sizes[0] < 1 or sizes[1:] not in ([], [1, 1]):
        raise ImportRefused(f"noise: got {described([noise])}; allowed are (N, Z) and (N, Z, 1, 1), Z a number")
    return sizes
