"""Transposed convolutions as matrix products and plain convolutions, for which onnxruntime has its fast and its int8 kernels."""

from typing import Any, NamedTuple

import onnx_ir as ir
from onnxscript.rewriter.pattern import RewriteRuleClassBase

from export.pixels import TO_NHWC
from export.rewrites.layer import constant, has_known_weights, known_layer, map_shape, producer, reshape

MIN_CHANNELS = 8
"""Output channels that a transposed convolution must have to be rewritten: plain ones fill eight lanes at a time."""


class TransposedPoint(RewriteRuleClassBase):
    """A transposed convolution of a single pixel is a matrix product."""

    def pattern(self, op: Any, x: Any) -> Any:
        """ConvTranspose(x, weights[, bias])."""
        return op.ConvTranspose(x, _allow_other_inputs=True, _allow_other_attributes=True, _outputs=["up"])

    def check(self, context: Any, x: ir.Value, up: ir.Value) -> bool:
        """One pixel, weights known, nothing cut off or added."""
        node, shape = producer(up), map_shape(x)
        is_point = shape is not None and shape[1:] == (1, 1)
        is_whole = _ints(node, "pads", 4, 0) == (0,) * 4 and _ints(node, "output_padding", 2, 0) == (0, 0)
        return is_point and is_whole and _is_plain(node) and has_known_weights(up)

    def rewrite(self, op: Any, x: ir.Value, up: ir.Value) -> Any:
        """Flatten -> Gemm -> Reshape."""
        _, name, weights, bias = known_layer(up)
        inputs, channels, height, width = weights.shape
        matrix = constant(op, weights.reshape(inputs, -1), f"{name}_matrix")
        repeated = constant(op, bias.repeat(height * width), f"{name}_bias")
        return reshape(op, op.Gemm(op.Flatten(x), matrix, repeated), [0, channels, height, width])


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
        if map_shape(x) is None or not has_known_weights(up) or not _is_plain(producer(up)):
            return False
        weights = known_layer(up).weights
        if weights.ndim != 4 or weights.shape[1] < MIN_CHANNELS:
            return False
        axes = _phases(up, 0), _phases(up, 1)
        is_even = all(len({phase.longer for phase in phases}) == 1 for phases in axes)
        return is_even and all(phase.kernel and min(phase.pads) >= 0 for phases in axes for phase in phases)

    def rewrite(self, op: Any, x: ir.Value, up: ir.Value, activated: ir.Value | None = None) -> Any:
        """Convolutions with their activation -> NHWC -> columns interlaced -> rows interlaced -> NCHW."""
        _, name, weights, zeros_or_bias = known_layer(up)
        bias = constant(op, zeros_or_bias, f"{name}_bias")
        rows, columns = _phases(up, 0), _phases(up, 1)

        def convolved(row: _Phase, column: _Phase) -> Any:
            """(N, H, W, C) of one phase."""
            part = weights[:, :, row.kernel][:, :, :, column.kernel].transpose(1, 0, 2, 3)
            kernel = constant(op, part, f"{name}_{row.kernel[0]}_{column.kernel[0]}")
            pads = [row.pads[0], column.pads[0], row.pads[1], column.pads[1]]
            value = op.Conv(x, kernel, bias, kernel_shape=list(part.shape[2:]), pads=pads, strides=[1, 1])
            if activated is not None:
                value = getattr(op, str(self._activation))(value, **producer(activated).attributes)
            return op.Transpose(value, perm=TO_NHWC)

        shape = map_shape(x)
        assert shape is not None, "checked before"
        height, width = shape[1] + rows[0].longer, shape[2] + columns[0].longer
        lines = []
        for row in rows:
            interlaced = op.Concat(*(convolved(row, column) for column in columns), axis=3)
            lines.append(reshape(op, interlaced, [0, height, -1]))
        whole = [0, len(rows) * height, len(columns) * width, weights.shape[1]]
        return op.Transpose(reshape(op, op.Concat(*lines, axis=2), whole), perm=[0, 3, 1, 2])


def _phases(up: ir.Value, axis: int) -> list[_Phase]:
    """The phases of a transposed convolution in one axis, rows (0) or columns (1)."""
    node, _, weights, _ = known_layer(up)
    size, stride = weights.shape[2 + axis], _ints(node, "strides", 2, 1)[axis]
    pads, added = _ints(node, "pads", 4, 0), _ints(node, "output_padding", 2, 0)[axis]
    before = pads[axis]
    phases = []
    for phase in range(stride):
        first, last = -((size - 1 - phase - before) // stride), (phase + before) // stride
        kernel = [phase + before - stride * offset for offset in range(first, last + 1)]
        # The output has s (H - 1) + size - pads + added rows; this phase has every s-th of them.
        longer = -((phase + before + pads[2 + axis] + stride - size - added) // stride)
        phases.append(_Phase(kernel, (-first, longer + len(kernel) - 1 + first), longer))
    return phases


def _ints(node: ir.Node, name: str, count: int, default: int) -> tuple[int, ...]:
    return tuple(node.attributes.get_ints(name, (default,) * count))


def _is_plain(node: ir.Node) -> bool:
    """Not dilated, of one group, and what is cut off its output told by the attribute `pads` alone."""
    attributes = node.attributes
    has_pads = attributes.get_string("auto_pad", "NOTSET") == "NOTSET" and "output_shape" not in attributes
    return has_pads and _ints(node, "dilations", 2, 1) == (1, 1) and attributes.get_int("group", 1) == 1
