"""A file whose inputs or outputs are of half or double precision, computed in single precision.

    model -> in_single() -> weights, constants, casts and types float32;  check_precision(): what that changes

onnxruntime has few layers of half precision on a CPU and few of double precision at all, and what a graph rounds to half at its
end is no measure for a bundle. The images are checked against those of the file as it came.
"""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import onnx

from export.errors import ImportRefused
from export.onnx_import.reference import Reference
from export.onnx_import.signature import dtype_of
from export.sessions import Arrays

MEAN_GREY_LEVELS = 1.0
"""Mean error in grey levels that another precision may make of a file's images; half makes a fiftieth of that."""

_OTHERS = {onnx.TensorProto.FLOAT16: "half", onnx.TensorProto.DOUBLE: "double"}
_TYPES = frozenset({"to", "dtype", "output_dtype"})
"""Attributes whose numbers are types of elements."""


def in_single(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """`model`, or where its inputs or outputs have another precision what computes the same in single, and which it was."""
    ends = {each.type.tensor_type.elem_type for each in (*model.graph.input, *model.graph.output)}
    found = [name for kind, name in _OTHERS.items() if kind in ends]
    if not found:
        return model, ""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    _graph_in_single(copy.graph)
    for function in copy.functions:
        _nodes_in_single(function.node)
    return copy, " and ".join(found)


def check_precision(
    name: str,
    original: onnx.ModelProto,
    feed: Arrays,
    expected: npt.NDArray[np.float32],
    read: Callable[[Arrays], npt.NDArray[np.float32]],
    allowed: float = MEAN_GREY_LEVELS,
    unit: str = "grey levels",
    *,
    is_by_row: bool = False,
) -> str:
    """What single precision changes of what the file as it came gives, in words.

    feed: inputs of its form in single precision. read: its outputs -> what is compared with `expected`.

    Raises: ImportRefused, if that is more than rounding.
    """
    types = {each.name: dtype_of(each) for each in original.graph.input}
    try:
        reference = Reference(name, original)
        if is_by_row:
            reference.run_by_row()
        found = read(reference({key: array.astype(types[key]) for key, array in feed.items()}))
    except ImportRefused:
        return "as it came, onnxruntime does not run it here"
    if not np.isfinite(found).all():
        return "as it came, it gives values that are infinite or no numbers"
    error = float(np.abs(found - expected).mean())
    if not error <= allowed:
        raise ImportRefused(
            f"{name}: in single precision it gives something else, off by {error:.3g} {unit} in the mean; export it in float32"
        )
    return f"as it came, it is off by {error:.2g} {unit} in the mean"


def _graph_in_single(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _tensor_in_single(tensor)
    for sparse in graph.sparse_initializer:
        _tensor_in_single(sparse.values)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in _OTHERS:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    _nodes_in_single(graph.node)


def _nodes_in_single(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in _TYPES and attribute.i in _OTHERS:
                attribute.i = onnx.TensorProto.FLOAT
            if attribute.type == onnx.AttributeProto.TENSOR:
                _tensor_in_single(attribute.t)
            for graph in (attribute.g, *attribute.graphs):
                _graph_in_single(graph)


def _tensor_in_single(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _OTHERS:
        array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
