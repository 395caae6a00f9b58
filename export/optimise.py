"""Exact rewrites of a graph into one that onnxruntime runs faster and that can be quantised.

    constants and batch norms folded -> transposed convolutions as plain ones -> layout after arithmetic

What a rewritten graph computes is what it computed before, but for the order of sums. Knows ONNX; no model, no torch.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass
from onnxscript import optimizer
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.pattern import RewriteRule, RewriteRuleClassBase
from onnxscript.rewriter.rules.common import (
    conv_affine_fusion_rule,
    fuse_batchnorm_into_conv_rule,
    fuse_batchnorm_into_conv_transpose_rule,
    fuse_batchnorm_into_gemm_rule,
)

from export.pixels import TO_NHWC

MIN_CHANNELS = 8
"""Output channels that a transposed convolution must have to be rewritten: plain ones fill eight lanes at a time."""

Array = npt.NDArray[np.generic]


def optimise(model: ir.Model) -> None:
    """Rewrite `model` in place; its inputs and outputs stay as they are."""
    for rules in _steps():
        optimizer.optimize_ir(model)
        ShapeInferencePass()(model)
        rewrite(model, rules)
    optimizer.optimize_ir(model)
    ShapeInferencePass()(model)


def _steps() -> list[list[RewriteRule]]:
    """Rules by step. Those of a step go through the graph together, so what must come first has a step of its own."""
    return [
        [fuse_batchnorm_into_conv_rule, fuse_batchnorm_into_conv_transpose_rule, fuse_batchnorm_into_gemm_rule],
        [TransposedPoint.rule(), TransposedConvolution.rule("LeakyRelu"), TransposedConvolution.rule("Relu")],
        [TransposedConvolution.rule(None), ShuffleByRows.rule()],
        [LayoutLast.rule(*pair) for pair in product(("DepthToSpace", "Transpose"), ("Mul", "Add", "QuantizeLinear"))],
        [conv_affine_fusion_rule, ShuffleToNhwc.rule()],
    ]


class TransposedPoint(RewriteRuleClassBase):
    """A transposed convolution of a single pixel is a matrix product."""

    def pattern(self, op: Any, x: Any) -> Any:
        """ConvTranspose(x, weights[, bias])."""
        return op.ConvTranspose(x, _allow_other_inputs=True, _allow_other_attributes=True, _outputs=["up"])

    def check(self, context: Any, x: ir.Value, up: ir.Value) -> bool:
        """One pixel, weights known, nothing cut off or added."""
        node = _node(up)
        is_point = _has_map(x) and _map(x)[1:] == (1, 1)
        plain = {"pads": (0,) * 4, "output_padding": (0, 0), "dilations": (1, 1), "group": (1,)}
        is_plain = _has_pads(node) and all(_ints(node, *pair) == pair[1] for pair in plain.items())
        return is_point and is_plain and _weights(node) is not None

    def rewrite(self, op: Any, x: ir.Value, up: ir.Value) -> Any:
        """Flatten -> Gemm -> Reshape."""
        node = _node(up)
        weights, name = _known(node), _name(node)
        inputs, channels, height, width = weights.shape
        matrix = _constant(op, weights.reshape(inputs, -1), f"{name}_matrix")
        bias = _constant(op, _bias(node, channels).repeat(height * width), f"{name}_bias")
        return _reshape(op, op.Gemm(op.Flatten(x), matrix, bias), [0, channels, height, width])


class _Phase(NamedTuple):
    """The rows (or columns) r, r + s, r + 2 s ... of what a transposed convolution gives, as a plain convolution."""

    kernel: list[int]
    """Rows of the kernel, in the order in which they meet the input's."""
    pads: tuple[int, int]
    """Rows of zeros before and after the input."""
    longer: int
    """Rows given beyond the input's number."""


class TransposedConvolution(RewriteRuleClassBase):
    """A transposed convolution of stride s is s * s plain ones of stride 1, whose results interlace.

    Output row s q + r sums the input rows q + d over every d for which k = r + p - s d is a row of the kernel (p: rows cut
    off at the beginning): a plain convolution by every s-th row of the kernel, the last first. So it is with columns.
    There are as many multiplications as before, and onnxruntime has int8 kernels for plain convolutions only.
    """

    def __init__(self, activation: str | None) -> None:
        """activation: done before interlacing, because onnxruntime makes one operator of it and the convolution."""
        super().__init__(f"TransposedConvolution{activation or ''}")
        self._activation = activation

    def pattern(self, op: Any, x: Any) -> Any:
        """[activation](ConvTranspose(x, weights[, bias]))."""
        up = op.ConvTranspose(x, _allow_other_inputs=True, _allow_other_attributes=True, _outputs=["up"])
        if not self._activation:
            return up
        return getattr(op, self._activation)(up, _allow_other_attributes=True, _outputs=["activated"])

    def check(self, context: Any, x: ir.Value, up: ir.Value, activated: ir.Value | None = None) -> bool:
        """Weights and the map's size known, enough channels, all phases of one size, nothing cut off."""
        node = _node(up)
        weights = _weights(node)
        if weights is None or weights.ndim != 4 or weights.shape[1] < MIN_CHANNELS:
            return False
        is_plain = _ints(node, "dilations", (1, 1)) == (1, 1) and _ints(node, "group", (1,)) == (1,)
        if not _has_map(x) or not is_plain or not _has_pads(node):
            return False
        phases = [phase for axis in (0, 1) for phase in _phases(node, axis)]
        is_even = all(len({phase.longer for phase in _phases(node, axis)}) == 1 for axis in (0, 1))
        return is_even and all(phase.kernel and min(phase.pads) >= 0 for phase in phases)

    def rewrite(self, op: Any, x: ir.Value, up: ir.Value, activated: ir.Value | None = None) -> Any:
        """Convolutions with their activation -> NHWC -> columns interlaced -> rows interlaced -> NCHW."""
        node = _node(up)
        weights, name = _known(node), _name(node)
        channels = weights.shape[1]
        bias = _constant(op, _bias(node, channels), f"{name}_bias")
        rows, columns = _phases(node, 0), _phases(node, 1)

        def convolved(row: _Phase, column: _Phase) -> Any:
            """(N, H, W, C) of one phase."""
            part = weights[:, :, row.kernel][:, :, :, column.kernel].transpose(1, 0, 2, 3)
            kernel = _constant(op, part, f"{name}_{row.kernel[0]}_{column.kernel[0]}")
            pads = [row.pads[0], column.pads[0], row.pads[1], column.pads[1]]
            value = op.Conv(x, kernel, bias, kernel_shape=list(part.shape[2:]), pads=pads, strides=[1, 1])
            if activated is not None:
                value = getattr(op, str(self._activation))(value, **_node(activated).attributes)
            return op.Transpose(value, perm=TO_NHWC)

        _, height, width = _map(x)
        lines = []
        for row in rows:
            interlaced = op.Concat(*(convolved(row, column) for column in columns), axis=3)
            lines.append(_reshape(op, interlaced, [0, height + rows[0].longer, -1]))
        shape = [0, len(rows) * (height + rows[0].longer), len(columns) * (width + columns[0].longer), channels]
        return op.Transpose(_reshape(op, op.Concat(*lines, axis=2), shape), perm=[0, 3, 1, 2])


def _phases(node: ir.Node, axis: int) -> list[_Phase]:
    """The phases of a transposed convolution in one axis, rows (0) or columns (1)."""
    size, stride = _known(node).shape[2 + axis], _ints(node, "strides", (1, 1))[axis]
    pads, added = _ints(node, "pads", (0,) * 4), _ints(node, "output_padding", (0, 0))[axis]
    before = pads[axis]
    phases = []
    for phase in range(stride):
        first, last = -((size - 1 - phase - before) // stride), (phase + before) // stride
        kernel = [phase + before - stride * offset for offset in range(first, last + 1)]
        # The output has s (H - 1) + size - pads + added rows; this phase has every s-th of them.
        longer = -((phase + before + pads[2 + axis] + stride - size - added) // stride)
        phases.append(_Phase(kernel, (-first, longer + len(kernel) - 1 + first), longer))
    return phases


class LayoutLast(RewriteRuleClassBase):
    """Arithmetic by single numbers before a change of layout: convolutions can absorb it, and less is moved as bytes."""

    def __init__(self, layout: str, arithmetic: str) -> None:
        super().__init__(f"{arithmetic}Before{layout}")
        self._layout, self._arithmetic = layout, arithmetic

    def pattern(self, op: Any, x: Any) -> Any:
        """arithmetic(layout(x), ...)."""
        moved = getattr(op, self._layout)(x, _allow_other_attributes=True, _outputs=["moved"])
        return getattr(op, self._arithmetic)(
            moved, _allow_other_inputs=True, _allow_other_attributes=True, _outputs=["done"]
        )

    def check(self, context: Any, x: ir.Value, moved: ir.Value, done: ir.Value) -> bool:
        """All other inputs are single known numbers."""
        others = [value.const_value if value is not None else None for value in _node(done).inputs[1:]]
        return all(other is not None and other.size == 1 for other in others)

    def rewrite(self, op: Any, x: ir.Value, moved: ir.Value, done: ir.Value) -> Any:
        """layout(arithmetic(x, ...))."""
        value = getattr(op, self._arithmetic)(x, *_node(done).inputs[1:], **_node(done).attributes)
        return getattr(op, self._layout)(value, **_node(moved).attributes)


class ShuffleByRows(RewriteRuleClassBase):
    """A pixel shuffle of a convolution's channels by (row, column, channel) instead of (channel, row, column).

    The order is the convolution's to choose, and this one keeps the channels of a pixel together in NHWC.
    """

    def pattern(self, op: Any, x: Any) -> Any:
        """DepthToSpace(Conv(x, weights[, bias]))."""
        conv = op.Conv(x, _allow_other_inputs=True, _allow_other_attributes=True, _outputs=["conv"])
        return op.DepthToSpace(conv, mode="CRD", _allow_other_attributes=True, _outputs=["shuffled"])

    def check(self, context: Any, x: ir.Value, conv: ir.Value, shuffled: ir.Value) -> bool:
        """The weights are known."""
        return _weights(_node(conv)) is not None

    def rewrite(self, op: Any, x: ir.Value, conv: ir.Value, shuffled: ir.Value) -> Any:
        """The same with the convolution's channels in another order."""
        node = _node(conv)
        weights, name = _known(node), _name(node)
        (block,) = _ints(_node(shuffled), "blocksize", ())
        order = np.arange(len(weights)).reshape(-1, block**2).T.ravel()
        bias = _constant(op, _bias(node, len(weights))[order], f"{name}_bias_by_rows")
        value = op.Conv(x, _constant(op, weights[order], f"{name}_by_rows"), bias, **node.attributes)
        return op.DepthToSpace(value, blocksize=block, mode="DCR")


class ShuffleToNhwc(RewriteRuleClassBase):
    """A pixel shuffle by (row, column, channel) and a change to NHWC put rows together that are whole already."""

    def pattern(self, op: Any, x: Any) -> Any:
        """Transpose(DepthToSpace(x)), NCHW to NHWC."""
        shuffled = op.DepthToSpace(x, mode="DCR", _allow_other_attributes=True, _outputs=["shuffled"])
        return op.Transpose(shuffled, perm=TO_NHWC)

    def check(self, context: Any, x: ir.Value, shuffled: ir.Value) -> bool:
        """The map's size is known."""
        return _has_map(x)

    def rewrite(self, op: Any, x: ir.Value, shuffled: ir.Value) -> Any:
        """Transpose -> Split by row -> Concat."""
        depth, height, width = _map(x)
        (block,) = _ints(_node(shuffled), "blocksize", ())
        rows = op.Split(op.Transpose(x, perm=TO_NHWC), axis=3, num_outputs=block, _outputs=block)
        value = op.Concat(*(_reshape(op, row, [0, height, -1]) for row in rows), axis=2)
        return _reshape(op, value, [0, height * block, width * block, depth // block**2])


def _node(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None, "matched by a pattern"
    return node


def _has_map(value: ir.Value) -> bool:
    """Whether `value` is (N, C, H, W) with C, H and W known."""
    return value.shape is not None and len(value.shape) == 4 and all(isinstance(n, int) for n in value.shape.dims[1:])


def _map(value: ir.Value) -> tuple[int, ...]:
    """C, H and W of (N, C, H, W)."""
    assert value.shape is not None, "checked before"
    return tuple(size for size in value.shape.dims[1:] if isinstance(size, int))


def _ints(node: ir.Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """An attribute of one or several integers."""
    attribute = node.attributes.get(name)
    if attribute is None:
        return default
    return (attribute.as_int(),) if attribute.type == ir.AttributeType.INT else tuple(attribute.as_ints())


def _name(node: ir.Node) -> str:
    """The name of the weights of a node."""
    value = node.inputs[1]
    assert value is not None, "checked before"
    return str(value.name)


def _has_pads(node: ir.Node) -> bool:
    """Whether what is cut off the output of a transposed convolution is told by its attribute `pads`."""
    auto_pad = node.attributes.get("auto_pad")
    return (auto_pad is None or auto_pad.as_string() == "NOTSET") and "output_shape" not in node.attributes


def _weights(node: ir.Node) -> Array | None:
    """The second input of a node, if it is a constant in float32, as is the third where there is one."""
    given = [value for value in node.inputs[1:] if value is not None]
    known = [value.const_value.numpy() for value in given if value.const_value is not None]
    is_usable = len(known) == len(given) and all(array.dtype == np.float32 for array in known)
    return known[0] if known and is_usable and node.inputs[1] is not None else None


def _known(node: ir.Node) -> Array:
    weights = _weights(node)
    assert weights is not None, "checked before"
    return weights


def _bias(node: ir.Node, channels: int) -> Array:
    """The third input of a node, zeros where there is none."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return np.zeros(channels, np.float32)
    assert value.const_value is not None, "checked with the weights"
    return value.const_value.numpy()


def _constant(op: Any, array: Array, name: str) -> ir.Value:
    value: ir.Value = op.initializer(ir.tensor(np.ascontiguousarray(array)), name)
    return value


def _reshape(op: Any, value: ir.Value, shape: Sequence[int]) -> ir.Value:
    """Reshape; 0 keeps a size, -1 is what is left."""
    reshaped: ir.Value = op.Reshape(value, op.Constant(value_ints=list(shape)))
    return reshaped
