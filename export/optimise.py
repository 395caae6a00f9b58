"""Exact rewrites of a graph into one that onnxruntime runs faster and that can be quantised.

    constants and batch norms folded -> transposed convolutions as plain ones -> layout after arithmetic

What a rewritten graph computes is what it computed before, but for the order of sums. Knows ONNX; no model, no torch.
"""

from itertools import product

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass
from onnxscript import optimizer
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.pattern import RewriteRule
from onnxscript.rewriter.rules.common import (
    conv_affine_fusion_rule,
    fuse_batchnorm_into_conv_rule,
    fuse_batchnorm_into_conv_transpose_rule,
    fuse_batchnorm_into_gemm_rule,
)

from export.rewrites.layout import LayoutLast, ShuffleByRows, ShuffleToNhwc
from export.rewrites.transposed import TransposedConvolution, TransposedPoint


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
