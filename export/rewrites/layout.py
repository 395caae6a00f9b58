"""Changes of layout as late and as cheap as they can be: after arithmetic, and by rows that are whole already."""

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter.pattern import RewriteRuleClassBase

from export.pixels import TO_NHWC
from export.rewrites.layer import constant, has_known_weights, known_layer, map_shape, producer, reshape


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
        others = [value.const_value if value is not None else None for value in producer(done).inputs[1:]]
        return all(other is not None and other.size == 1 for other in others)

    def rewrite(self, op: Any, x: ir.Value, moved: ir.Value, done: ir.Value) -> Any:
        """layout(arithmetic(x, ...))."""
        value = getattr(op, self._arithmetic)(x, *producer(done).inputs[1:], **producer(done).attributes)
        return getattr(op, self._layout)(value, **producer(moved).attributes)


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
        return has_known_weights(conv)

    def rewrite(self, op: Any, x: ir.Value, conv: ir.Value, shuffled: ir.Value) -> Any:
        """Conv with its channels in another order -> DepthToSpace by rows."""
        node, name, weights, bias = known_layer(conv)
        block = producer(shuffled).attributes["blocksize"].as_int()
        order = np.arange(len(weights)).reshape(-1, block**2).T.ravel()
        bias_by_rows = constant(op, bias[order], f"{name}_bias_by_rows")
        value = op.Conv(x, constant(op, weights[order], f"{name}_by_rows"), bias_by_rows, **node.attributes)
        return op.DepthToSpace(value, blocksize=block, mode="DCR")


class ShuffleToNhwc(RewriteRuleClassBase):
    """A pixel shuffle by (row, column, channel) and a change to NHWC put rows together that are whole already."""

    def pattern(self, op: Any, x: Any) -> Any:
        """Transpose(DepthToSpace(x)), NCHW to NHWC."""
        shuffled = op.DepthToSpace(x, mode="DCR", _allow_other_attributes=True, _outputs=["shuffled"])
        return op.Transpose(shuffled, perm=TO_NHWC)

    def check(self, context: Any, x: ir.Value, shuffled: ir.Value) -> bool:
        """The map's size is known."""
        return map_shape(x) is not None

    def rewrite(self, op: Any, x: ir.Value, shuffled: ir.Value) -> Any:
        """Transpose -> Split by row -> Concat."""
        shape = map_shape(x)
        assert shape is not None, "checked before"
        depth, height, width = shape
        block = producer(shuffled).attributes["blocksize"].as_int()
        rows = op.Split(op.Transpose(x, perm=TO_NHWC), axis=3, num_outputs=block, _outputs=block)
        value = op.Concat(*(reshape(op, row, [0, height, -1]) for row in rows), axis=2)
        return reshape(op, value, [0, height * block, width * block, depth // block**2])
