"""The fp16 form of a graph, by onnxruntime's own converter: for GPUs, which multiply it twice as fast and more.

    graph -> layers before the last in fp16, the last and what follows in fp32 -> graph

Inputs and outputs keep their types. The last layer stays in fp32: its sums become grey levels.
"""

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import IdentityEliminationPass, NameFixPass, RemoveUnusedNodesPass, ShapeInferencePass
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from export.errors import VariantRefused
from export.sessions import Arrays

DEVICE = "cuda"

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def convert(graph: onnx.ModelProto, inputs: Arrays) -> onnx.ModelProto | None:
    """The fp16 form of `graph`, whatever its inputs; None where it has fewer than two layers.

    Raises: VariantRefused, if parts of it are in fp16 already.
    """
    if _has_fp16(graph):
        raise VariantRefused("parts of the graph are in fp16 already")
    copy = _with_names(graph)
    nodes = list(copy.graph.node)
    layers = [place for place, node in enumerate(nodes) if node.op_type in LAYERS]
    if len(layers) < 2:
        return None
    converted = convert_float_to_float16(
        copy,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, "QuantizeLinear"],
        node_block_list=[node.name for node in nodes[layers[-1] :]],
    )
    del converted.graph.value_info[:]  # those of the layers that stay are wrong
    _cast_once(converted)
    model = ir.serde.deserialize_model(converted)
    model.graph.sort()  # the casts stand at the end
    _keep_fp32(model)
    return ir.serde.serialize_model(model)


def _has_fp16(graph: onnx.ModelProto) -> bool:
    half = onnx.TensorProto.FLOAT16
    casts = (
        each.i for node in graph.graph.node if node.op_type == "Cast" for each in node.attribute if each.name == "to"
    )
    return half in casts or any(tensor.data_type == half for tensor in graph.graph.initializer)


def _with_names(graph: onnx.ModelProto) -> onnx.ModelProto:
    """`graph` with a name of its own for each node: by their names the converter knows which to leave."""
    model = ir.serde.deserialize_model(graph)
    NameFixPass()(model)
    return ir.serde.serialize_model(model)


def _cast_once(graph: onnx.ModelProto) -> None:
    """The converter casts a value once for each node that needs it in fp32, and gives all the casts one name."""
    nodes = {node.output[0]: node for node in reversed(graph.graph.node)}
    once = [node for node in graph.graph.node if nodes[node.output[0]] is node]
    del graph.graph.node[:]
    graph.graph.node.extend(once)


def _keep_fp32(model: ir.Model) -> None:
    """Between two nodes that stay in fp32 the converter casts to fp16 and back, which would round grey levels to eighths."""
    ShapeInferencePass()(model)
    for node in model.graph:
        inner = node.inputs[0].producer() if node.op_type == "Cast" and node.inputs[0] is not None else None
        source = inner.inputs[0] if inner is not None and inner.op_type == "Cast" else None
        if source is not None and source.dtype == node.outputs[0].dtype == ir.DataType.FLOAT:
            node.op_type = "Identity"
            node.attributes.clear()
            node.replace_input_with(0, source)
    IdentityEliminationPass()(model)
    RemoveUnusedNodesPass()(model)
