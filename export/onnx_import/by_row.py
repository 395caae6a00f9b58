"""A graph that is made for one row, run once for each row of a batch.

    inputs (N, ...) -> Scan over rows: [row -> (1, ...) -> the graph -> (1, ...) -> row] -> outputs (N, ...)

Slow, as rows are drawn one after the other, and the way out where a batch of 1 is baked into more than shapes.
"""

import onnx
from onnx import helper

from export.graphs import BATCH

_INSIDE = "row/"
"""Before all names of the graph inside: those of its inputs are also outside."""


def by_row(model: onnx.ModelProto) -> onnx.ModelProto:
    """What gives for any number of rows what `model` gives for each of them alone; its inputs and outputs keep their names."""
    inside = onnx.compose.add_prefix(model, _INSIDE).graph
    axis = helper.make_tensor(f"{_INSIDE}batch_axis", onnx.TensorProto.INT64, [1], [0])
    nodes = list(inside.node)
    rows_in, rows_out = [], []
    for value in inside.input:
        row = _row_of(value)
        rows_in.append(row)
        nodes.insert(0, helper.make_node("Unsqueeze", [row.name, axis.name], [value.name]))
    for value in inside.output:
        row = _row_of(value)
        rows_out.append(row)
        nodes.append(helper.make_node("Squeeze", [value.name, axis.name], [row.name]))
    body = helper.make_graph(nodes, "row", rows_in, rows_out, [*inside.initializer, axis])
    body.sparse_initializer.extend(inside.sparse_initializer)
    outer = onnx.ModelProto.FromString(model.SerializeToString())
    names = [[value.name for value in values] for values in (model.graph.input, model.graph.output)]
    scan = helper.make_node("Scan", names[0], names[1], name="by_row", body=body, num_scan_inputs=len(rows_in))
    graph = helper.make_graph([scan], model.graph.name, model.graph.input, model.graph.output)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = BATCH
    outer.graph.CopyFrom(graph)
    return outer


def _row_of(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """One row of a tensor, under a name of its own."""
    row = onnx.ValueInfoProto.FromString(value.SerializeToString())
    row.name = f"{value.name}/row"
    if row.type.tensor_type.shape.dim:
        del row.type.tensor_type.shape.dim[0]
    return row
