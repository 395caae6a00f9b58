"""A model from elsewhere in this project's opset, its names out of the way of those that are added.

model -> functions inlined -> GroupNormalization of opset 18 replaced -> onnx's version converter -> names prefixed
"""

import onnx
import onnx.compose
import onnx.inliner
import onnx.version_converter
import onnx_ir as ir
from onnxscript.rewriter import rewrite

from export.errors import ImportRefused, first_line
from export.graphs import OPSET
from export.onnx_import.file import opset
from export.onnx_import.reference import free_batch
from export.rewrites.groupnorm import GroupNormalization18

PREFIX = "foreign/"
"""Before all names of the file, which then cannot be those of nodes that are added; published files have it."""

_FIRST_OF_MODES = 11
"""The opset whose Resize has an attribute for how places are computed; before it there was one way."""


def convert(name: str, model: onnx.ModelProto) -> onnx.ModelProto:
    """What computes the same as `model`, in opset OPSET or newer, its batch axis free and all names prefixed.

    Raises: ImportRefused.
    """
    # onnx's converter would lose functions that the file has of its own.
    copy = onnx.inliner.inline_local_functions(onnx.ModelProto.FromString(model.SerializeToString()))
    free_batch(copy)
    version = opset(copy)
    if any(node.op_type == "GroupNormalization" for node in copy.graph.node) and version <= OPSET:
        imported = ir.serde.deserialize_model(copy)
        rewrite(imported, [GroupNormalization18.rule()])
        copy = ir.serde.serialize_model(imported)
    if version < OPSET:
        try:
            copy = onnx.version_converter.convert_version(copy, OPSET)
        except Exception as error:  # it raises whatever its C++ does
            raise ImportRefused(
                f"{name}: onnx cannot convert it from opset {version} to {OPSET}: {first_line(error)}; export it with "
                f"opset {OPSET}, which torch.onnx.export takes as opset_version"
            ) from None
    if version < _FIRST_OF_MODES:
        _keep_places(copy)
    copy.ir_version = max(copy.ir_version, 10)
    return onnx.compose.add_prefix(copy, PREFIX)


def _keep_places(model: onnx.ModelProto) -> None:
    """Let Resize compute places as Upsample did; onnx's converter leaves it the later default."""
    for node in model.graph.node:
        if node.op_type == "Resize":
            node.attribute.append(onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
            node.attribute.append(onnx.helper.make_attribute("nearest_mode", "floor"))
