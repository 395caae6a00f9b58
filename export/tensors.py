"""The values of tensors inside a graph, which its outputs do not show.

graph, names, inputs -> the same graph with these outputs too -> onnxruntime, batch by batch -> values by name
"""

from collections.abc import Iterator

import onnx

from export.sessions import Arrays, run, session, split


def tensors(graph: onnx.ModelProto, names: list[str], inputs: Arrays, size: int) -> Iterator[Arrays]:
    """Values of the floating-point tensors `names`, batch by batch of `size` rows of `inputs`."""
    watched = onnx.ModelProto.FromString(graph.SerializeToString())
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    watching = session(watched)
    for batch in split(inputs, size):
        values = run(watching, batch)
        yield {name: values[name] for name in names}
