"""What rewrite rules read of a matched node, and the nodes that they add most.

value -> producer() -> node        value -> known_layer() -> Layer        value -> map_shape() -> (C, H, W)
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[np.generic]


class Layer(NamedTuple):
    """A Conv or ConvTranspose whose weights and bias are constants in float32; without a bias, zeros stand for it."""

    node: ir.Node
    name: str
    """Name of the tensor of the weights."""
    weights: Array
    bias: Array


def producer(value: ir.Value) -> ir.Node:
    """The node that gives a matched value."""
    node = value.producer()
    assert node is not None, "matched by a pattern"
    return node


def has_known_weights(value: ir.Value) -> bool:
    """Whether the node that gives `value` is a Layer."""
    node = producer(value)
    constants = [each.const_value for each in node.inputs[1:] if each is not None]
    known = [each.numpy().dtype == np.float32 for each in constants if each is not None]
    return len(node.inputs) > 1 and node.inputs[1] is not None and len(known) == len(constants) and all(known)


def known_layer(value: ir.Value) -> Layer:
    """The layer that gives `value`, which `has_known_weights` allows."""
    node = producer(value)
    arrays = [each.const_value.numpy() for each in node.inputs[1:] if each is not None and each.const_value is not None]
    weights = arrays[0]
    channels = weights.shape[1 if node.op_type == "ConvTranspose" else 0]
    bias = arrays[1] if len(arrays) > 1 else np.zeros(channels, np.float32)
    assert node.inputs[1] is not None, "it has weights"
    return Layer(node, str(node.inputs[1].name), weights, bias)


def map_shape(value: ir.Value) -> tuple[int, ...] | None:
    """(C, H, W) of a value (N, C, H, W); None where it has other axes, or one of them is not known."""
    dims = () if value.shape is None else value.shape.dims
    sizes = tuple(size for size in dims[1:] if isinstance(size, int))
    return sizes if len(dims) == 4 and len(sizes) == 3 else None


def constant(op: Any, array: Array, name: str) -> ir.Value:
    """`array` as an initializer of the graph."""
    value: ir.Value = op.initializer(ir.tensor(np.ascontiguousarray(array)), name)
    return value


def reshape(op: Any, value: ir.Value, shape: Sequence[int]) -> ir.Value:
    """Reshape; 0 keeps a size, -1 is what is left."""
    reshaped: ir.Value = op.Reshape(value, op.Constant(value_ints=list(shape)))
    return reshaped
