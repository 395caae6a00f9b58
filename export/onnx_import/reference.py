"""The file as it came, run on any number of rows: what its bundle must agree with.

    model -> free_batch() -> Reference: inputs -> outputs, by onnxruntime without its optimisations

Where one row is baked into the model's reshapes, `with_free_batch` sets it free.
"""

import onnx

from export.errors import ImportRefused, first_line
from export.graphs import BATCH
from export.onnx_import.file import constant, node_name, nodes
from export.sessions import Arrays, Session, run, session

_OF_ONNX = frozenset({"", "ai.onnx", "ai.onnx.ml"})


class Reference:
    """The file as it came: inputs by their names -> outputs by theirs, (N, ...)."""

    def __init__(self, name: str, model: onnx.ModelProto, of: str = "noise") -> None:
        """of: what its rows are, for messages."""
        self._name, self._of = name, of
        free = onnx.ModelProto.FromString(model.SerializeToString())
        free_batch(free)
        self._session = _loaded(name, free)

    def __call__(self, inputs: Arrays) -> Arrays:
        """Raises: ImportRefused, if it does not run."""
        try:
            return run(self._session, inputs)
        except Exception as error:  # onnxruntime's own exceptions share no base class
            rows = len(next(iter(inputs.values())))
            raise ImportRefused(
                f"{self._name}: does not run on {rows} rows of {self._of}: {first_line(error)}"
            ) from None

    def run_by_row(self) -> None:
        """From now on run one row at a time."""
        self._session.rows = 1


def _loaded(name: str, model: onnx.ModelProto) -> Session:
    try:
        return session(model, is_optimised=False)
    except Exception as error:  # onnxruntime's own exceptions share no base class
        own = {function.name for function in model.functions}
        others = [
            f"{node_name(node)} of the domain {node.domain}"
            for node in nodes(model)
            if node.domain not in _OF_ONNX and node.op_type not in own
        ]
        hint = f", which has {', '.join(others[:3])}, none of ONNX's own" if others else ""
        raise ImportRefused(f"{name}: onnxruntime cannot load the graph{hint}: {first_line(error)}") from None


def free_batch(model: onnx.ModelProto) -> None:
    """Let the first axis of inputs and outputs be as long as it is."""
    for value in (*model.graph.input, *model.graph.output):
        shape = value.type.tensor_type.shape
        if shape.dim:
            shape.dim[0].Clear()
            shape.dim[0].dim_param = BATCH
    del model.graph.value_info[:]  # they have the batch that the file was made with


def with_free_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with shapes that have one row baked in for as many as there are; it may draw something else then."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    shapes = {tensor.name: tensor for tensor in copy.graph.initializer}
    for node in copy.graph.node:
        if node.op_type == "Constant" and (array := constant(node)) is not None:
            node.attribute[0].CopyFrom(onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(array)))
            shapes[node.output[0]] = node.attribute[0].t
    freed: set[str] = set()
    for node in copy.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in shapes or node.input[1] in freed:
            continue
        shape = onnx.numpy_helper.to_array(shapes[node.input[1]]).copy()
        if shape.ndim == 1 and len(shape) and shape[0] == 1:
            shape[0] = 0 if -1 in shape else -1
            shapes[node.input[1]].CopyFrom(onnx.numpy_helper.from_array(shape, shapes[node.input[1]].name))
            freed.add(node.input[1])
    return copy


def baked_in(model: onnx.ModelProto) -> str:
    """The nodes that have one row baked in, for a sentence."""
    before, after = model.graph, with_free_batch(model).graph
    changed = {old.name for old, new in zip(before.initializer, after.initializer, strict=True) if old != new}
    changed |= {old.output[0] for old, new in zip(before.node, after.node, strict=True) if old != new}
    names = [node_name(node) for node in before.node if node.op_type == "Reshape" and node.input[1] in changed]
    return ", ".join(names[:3]) or "its nodes"
