"""The fp16 form of a graph, by onnxruntime's own converter: for GPUs, which multiply it twice as fast and more.

    graph -> layers before the last in fp16, the last and what follows in fp32 -> graph

Inputs and outputs keep their types. The last layer stays in fp32: its sums become grey levels.
"""

import onnx
import onnx_ir as ir
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def to_fp16(graph: onnx.ModelProto) -> onnx.ModelProto | None:
    """The fp16 form of `graph`; None where it has fewer than two layers."""
    nodes = list(graph.graph.node)
    layers = [place for place, node in enumerate(nodes) if node.op_type in LAYERS]
    if len(layers) < 2:
        return None
    copy = onnx.ModelProto.FromString(graph.SerializeToString())
    converted = convert_float_to_float16(
        copy,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, "QuantizeLinear"],
        node_block_list=[node.name for node in nodes[layers[-1] :]],
    )
    del converted.graph.value_info[:]  # those of the layers that stay are wrong
    model = ir.serde.deserialize_model(converted)
    model.graph.sort()  # the casts stand at the end
    return ir.serde.serialize_model(model)
