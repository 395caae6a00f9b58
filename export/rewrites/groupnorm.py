"""GroupNormalization of opsets 18 to 20, which onnx has withdrawn and onnxruntime runs, as nodes of every opset.

Its scale and bias are one number a group; from opset 21 on they are one a channel.
"""

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter.pattern import RewriteRuleClassBase


class GroupNormalization18(RewriteRuleClassBase):
    """GroupNormalization(x, scale, bias) -> InstanceNormalization of each group by its scale and bias."""

    def pattern(self, op: Any, x: Any, scale: Any, bias: Any) -> Any:
        """GroupNormalization(x, scale, bias) with any attributes."""
        return op.GroupNormalization(x, scale, bias, _allow_other_attributes=True, _outputs=["normed"])

    def rewrite(self, op: Any, x: ir.Value, scale: ir.Value, bias: ir.Value, normed: ir.Value) -> Any:
        """Reshape to (N, groups, the rest) -> InstanceNormalization -> back to the shape that x has."""
        node = normed.producer()
        assert node is not None, "matched by the pattern"
        epsilon = node.attributes.get("epsilon")
        groups = node.attributes["num_groups"].as_int()
        by_group = op.initializer(ir.tensor(np.array([0, groups, -1])), f"{normed.name}_by_group")
        normalised = op.InstanceNormalization(
            op.Reshape(x, by_group), scale, bias, epsilon=1e-5 if epsilon is None else epsilon.as_float()
        )
        return op.Reshape(normalised, op.Shape(x))
