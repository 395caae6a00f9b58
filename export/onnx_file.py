"""A foreign ONNX file: as it came, which decides what its images are, and converted for this project's rewrites.

    file -> read() -> model as it came -> Reference: inputs -> outputs, by onnxruntime without its optimisations
                                       -> converted() -> the same function in this project's opset

What a file does that no generator may, and what onnx or onnxruntime cannot read, is told in words, with the node's name.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx.compose
import onnx.inliner
import onnx.version_converter
import onnx_ir as ir
from onnxscript.rewriter import rewrite

from export.errors import ImportRefused
from export.graphs import BATCH, OPSET
from export.groupnorm import GroupNormalization18
from export.sessions import Arrays, Session, run, session

PREFIX = "foreign/"
"""Of all names, so that they cannot be those of what is added."""

_KINDS = {
    b"PK": "a zip file, as torch.save writes: torch.onnx.export makes ONNX of the module",
    b"\x80": "a pickle, as old versions of torch.save write: torch.onnx.export makes ONNX of the module",
    b"\x89HDF": "an HDF5 file, as Keras writes: tf2onnx makes ONNX of the model",
    b"version https://": "a pointer of Git LFS: git lfs pull gets the file itself",
    b"<": "a web page or XML: was the file downloaded by its page's address?",
}
_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
_OF_ONNX = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_FIRST_OF_MODES = 11
"""The opset whose Resize has an attribute for how places are computed; before it there was one way."""


def read(file: Path) -> onnx.ModelProto:
    """The model in `file`, with its weights; those that are listed among the graph's inputs are no inputs.

    Raises: ImportRefused.
    """
    try:
        with file.open("rb") as opened:
            begin = opened.read(16)
        if not begin:
            raise ImportRefused(f"{file} is empty")
        for magic, kind in _KINDS.items():
            if begin.startswith(magic):
                raise ImportRefused(f"{file} is no ONNX file, but {kind}")
        if begin[8:9] == b"{":
            raise ImportRefused(
                f"{file} is no ONNX file, but has weights alone, as safetensors: ONNX has the layers too"
            )
        model = onnx.load(file)
    except ImportRefused:
        raise
    except OSError as error:
        raise ImportRefused(f"{file} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # protobuf's and onnx's exceptions share no base class
        raise ImportRefused(f"{file} is no ONNX file that can be read: {_first_line(error)}") from None
    _check_versions(file.name, model)
    _check_nodes(file.name, model)
    weights = {
        tensor.name for tensor in (*model.graph.initializer, *(each.values for each in model.graph.sparse_initializer))
    }
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)  # before, weights had to be inputs
    if not inputs or not model.graph.output:
        raise ImportRefused(f"{file} has no {'outputs' if inputs else 'inputs'}: it is no graph that draws")
    return model


class Reference:
    """The file as it came: inputs by their names -> outputs by theirs, (N, ...)."""

    def __init__(self, name: str, model: onnx.ModelProto) -> None:
        self._name = name
        free = onnx.ModelProto.FromString(model.SerializeToString())
        _free_batch(free)
        self._session = _loaded(name, free)

    def __call__(self, inputs: Arrays) -> Arrays:
        """Raises: ImportRefused, if it does not run."""
        try:
            return run(self._session, inputs)
        except Exception as error:  # onnxruntime's own exceptions share no base class
            rows = len(next(iter(inputs.values())))
            raise ImportRefused(f"{self._name}: does not run on {rows} rows of noise: {_first_line(error)}") from None

    def run_by_row(self) -> None:
        """From now on run one row at a time."""
        self._session.rows = 1


def converted(name: str, model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function in opset OPSET or newer, its batch axis free and all names prefixed.

    Raises: ImportRefused.
    """
    # onnx's converter would lose functions that the file has of its own.
    copy = onnx.inliner.inline_local_functions(onnx.ModelProto.FromString(model.SerializeToString()))
    _free_batch(copy)
    opset = _opset(copy)
    if any(node.op_type == "GroupNormalization" for node in copy.graph.node) and opset <= OPSET:
        foreign = ir.serde.deserialize_model(copy)
        rewrite(foreign, [GroupNormalization18.rule()])
        copy = ir.serde.serialize_model(foreign)
    if opset < OPSET:
        try:
            copy = onnx.version_converter.convert_version(copy, OPSET)
        except Exception as error:  # it raises whatever its C++ does
            raise ImportRefused(
                f"{name}: onnx cannot convert it from opset {opset} to {OPSET}: {_first_line(error)}; export it with "
                f"opset {OPSET}, which torch.onnx.export takes as opset_version"
            ) from None
    if opset < _FIRST_OF_MODES:
        _keep_places(copy)
    copy.ir_version = max(copy.ir_version, 10)
    return onnx.compose.add_prefix(copy, PREFIX)


def _keep_places(model: onnx.ModelProto) -> None:
    """Let Resize compute places as Upsample did; onnx's converter leaves it the later default."""
    for node in model.graph.node:
        if node.op_type == "Resize":
            node.attribute.append(onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
            node.attribute.append(onnx.helper.make_attribute("nearest_mode", "floor"))


def constants(model: onnx.ModelProto) -> dict[str, npt.NDArray[np.generic]]:
    """What is known of the graph's tensors without running it: weights, and what Constant nodes give."""
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and (array := _constant(node)) is not None:
            found[node.output[0]] = array
    return found


def _constant(node: onnx.NodeProto) -> npt.NDArray[np.generic] | None:
    value = onnx.helper.get_attribute_value(node.attribute[0])
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    kinds: dict[str, type[np.generic]] = {
        "value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32,
    }  # fmt: skip
    kind = kinds.get(node.attribute[0].name)
    return None if kind is None else np.array(value, kind)


def with_free_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with shapes that have one row baked in for as many as there are; whether it still draws the same, try it."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    shapes = {tensor.name: tensor for tensor in copy.graph.initializer}
    for node in copy.graph.node:
        if node.op_type == "Constant" and (array := _constant(node)) is not None:
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
    found = [_described(node) for node in before.node if node.op_type == "Reshape" and node.input[1] in changed]
    return ", ".join(found[:3]) or "its nodes"


def _loaded(name: str, model: onnx.ModelProto) -> Session:
    try:
        return session(model, is_optimised=False)
    except Exception as error:  # onnxruntime's own exceptions share no base class
        own = {function.name for function in model.functions}
        others = [
            f"{_described(node)} of the domain {node.domain}"
            for node in _nodes(model)
            if node.domain not in _OF_ONNX and node.op_type not in own
        ]
        hint = f", which has {', '.join(others[:3])}, none of ONNX's own" if others else ""
        raise ImportRefused(f"{name}: onnxruntime cannot load the graph{hint}: {_first_line(error)}") from None


def _free_batch(model: onnx.ModelProto) -> None:
    """Let the first axis of inputs and outputs be as long as it is."""
    for value in (*model.graph.input, *model.graph.output):
        shape = value.type.tensor_type.shape
        if shape.dim:
            shape.dim[0].Clear()
            shape.dim[0].dim_param = BATCH
    del model.graph.value_info[:]  # they tell the batch that the file was made with


def _check_versions(name: str, model: onnx.ModelProto) -> None:
    if not model.graph.node or not model.ir_version:
        raise ImportRefused(f"{name} is no ONNX file that can be read: it has no nodes")
    if model.ir_version > onnx.IR_VERSION:
        raise ImportRefused(
            f"{name}: IR version {model.ir_version} is newer than this onnx {onnx.__version__} knows, {onnx.IR_VERSION}; export "
            "it with an older onnx, or for an older opset"
        )
    newest = onnx.defs.onnx_opset_version()
    if _opset(model) > newest:
        raise ImportRefused(
            f"{name}: opset {_opset(model)} is newer than this onnx {onnx.__version__} knows, {newest}; export it with a "
            "smaller opset_version"
        )


def _check_nodes(name: str, model: onnx.ModelProto) -> None:
    """Refuse what would draw other images of the same noise, or mix those of a batch."""
    known = constants(model)
    for node in _nodes(model):
        flags = {each.name: each.i for each in node.attribute if each.type == onnx.AttributeProto.INT}
        if node.op_type in _RANDOM:
            raise ImportRefused(
                f"{name}: {_described(node)} draws noise of its own, so that the same seed would give other images; export "
                "the generator with its noise fixed (StyleGAN: noise_mode='const'), or with the noise as its input"
            )
        in_training = flags.get("training_mode") == 1 or (flags.get("is_test", 1) == 0 and _opset(model) < 7)
        if node.op_type == "BatchNormalization" and (in_training or len(list(filter(None, node.output))) > 1):
            raise ImportRefused(
                f"{name}: {_described(node)} is in training mode, it takes statistics of its batch, so that an image would "
                "depend on the others; call .eval() before torch.onnx.export"
            )
        is_switch = node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] in known
        if is_switch and known[node.input[2]].any():
            raise ImportRefused(
                f"{name}: {_described(node)} is in training mode; call .eval() before torch.onnx.export"
            )


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of branches, loops and the file's own functions too."""
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    while bodies:
        for node in bodies.pop(0):
            yield node
            bodies += [inner.node for attribute in node.attribute for inner in (attribute.g, *attribute.graphs)]


def _described(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name or node.output[0]!r}"


def _opset(model: onnx.ModelProto) -> int:
    return next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 1)


def _first_line(error: Exception) -> str:
    """What a library says, without its files, colours and stacks."""
    text = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text.strip()[:300]
