"""An ONNX file as it came: read, refused where it does what no generator may, and what it contains.

    file -> read() -> model

What onnx cannot read, and nodes that draw noise of their own or mix the images of a batch, are told by name.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from export.errors import ImportRefused, first_line

_KINDS = {
    b"PK": "a zip file, as torch.save writes: torch.onnx.export makes ONNX of the module",
    b"\x80": "a pickle, as old versions of torch.save write: torch.onnx.export makes ONNX of the module",
    b"\x89HDF": "an HDF5 file, as Keras writes: tf2onnx makes ONNX of the model",
    b"version https://": "a pointer of Git LFS: git lfs pull gets the file itself",
    b"<": "a web page or XML: was the file downloaded by its page's address?",
}
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
"""Types that noise and pixels may have: single, half and double precision."""

_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


def read(file: Path) -> onnx.ModelProto:
    """The model in `file`, with its weights; those that are listed among the graph's inputs are no inputs.

    Raises: ImportRefused.
    """
    try:
        with file.open("rb") as opened:
            _check_kind(file, opened.read(16))
        model = onnx.load(file)
    except ImportRefused:
        raise
    except OSError as error:
        raise ImportRefused(f"{file} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # protobuf's and onnx's exceptions share no base class
        raise ImportRefused(f"{file} is no ONNX file that can be read: {first_line(error)}") from None
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


def _check_kind(file: Path, head: bytes) -> None:
    """Refuse files of other formats by their first bytes."""
    if not head:
        raise ImportRefused(f"{file} is empty")
    for magic, kind in _KINDS.items():
        if head.startswith(magic):
            raise ImportRefused(f"{file} is no ONNX file, but {kind}")
    if head[8:9] == b"{":
        raise ImportRefused(f"{file} is no ONNX file, but has weights alone, as safetensors: ONNX has the layers too")


def _check_versions(name: str, model: onnx.ModelProto) -> None:
    if not model.graph.node or not model.ir_version:
        raise ImportRefused(f"{name} is no ONNX file that can be read: it has no nodes")
    if model.ir_version > onnx.IR_VERSION:
        raise ImportRefused(
            f"{name}: IR version {model.ir_version} is newer than this onnx {onnx.__version__} knows, {onnx.IR_VERSION}; export "
            "it with an older onnx, or for an older opset"
        )
    newest = onnx.defs.onnx_opset_version()
    if opset(model) > newest:
        raise ImportRefused(
            f"{name}: opset {opset(model)} is newer than this onnx {onnx.__version__} knows, {newest}; export it with a "
            "smaller opset_version"
        )


def _check_nodes(name: str, model: onnx.ModelProto) -> None:
    """Refuse what would draw other images of the same noise, or mix those of a batch."""
    values = constants(model)
    for node in nodes(model):
        flags = {each.name: each.i for each in node.attribute if each.type == onnx.AttributeProto.INT}
        if node.op_type in _RANDOM:
            raise ImportRefused(
                f"{name}: {node_name(node)} draws noise of its own, so that the same seed would give other images; export "
                "the generator with its noise fixed (StyleGAN: noise_mode='const'), or with the noise as its input, and an encoder "
                "with mean and log variance instead of a sample"
            )
        in_training = flags.get("training_mode") == 1 or (flags.get("is_test", 1) == 0 and opset(model) < 7)
        if node.op_type == "BatchNormalization" and (in_training or len(list(filter(None, node.output))) > 1):
            raise ImportRefused(
                f"{name}: {node_name(node)} is in training mode, it takes statistics of its batch, so that an image would "
                "depend on the others; call .eval() before torch.onnx.export"
            )
        is_switch = node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] in values
        if is_switch and values[node.input[2]].any():
            raise ImportRefused(f"{name}: {node_name(node)} is in training mode; call .eval() before torch.onnx.export")


def constants(model: onnx.ModelProto) -> dict[str, npt.NDArray[np.generic]]:
    """Tensors of the graph whose values are in the file: weights, and what Constant nodes give."""
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and (array := constant(node)) is not None:
            arrays[node.output[0]] = array
    return arrays


def constant(node: onnx.NodeProto) -> npt.NDArray[np.generic] | None:
    """What a Constant node gives; None where it is no number."""
    value = onnx.helper.get_attribute_value(node.attribute[0])
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    kinds: dict[str, type[np.generic]] = {
        "value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32,
    }  # fmt: skip
    kind = kinds.get(node.attribute[0].name)
    return None if kind is None else np.array(value, kind)


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of branches, loops and the file's own functions too."""
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    while bodies:
        for node in bodies.pop(0):
            yield node
            bodies += [inner.node for attribute in node.attribute for inner in (attribute.g, *attribute.graphs)]


def node_name(node: onnx.NodeProto) -> str:
    """Its operator and its name, for a message."""
    return f"{node.op_type} {node.name or node.output[0]!r}"


def opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the nodes are of."""
    return next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 1)


def is_number(value: onnx.ValueInfoProto) -> bool:
    """Whether it is one float and has no batch: of no axis, or of one that is declared to have one entry."""
    kind = value.type.tensor_type
    sizes = [dim.dim_value for dim in kind.shape.dim]
    return kind.elem_type in FLOATS and kind.HasField("shape") and sizes in ([], [1])


def described(values: Sequence[onnx.ValueInfoProto]) -> str:
    """Names, types and shapes as people write them."""
    parts = []
    for value in values:
        tensor = value.type.tensor_type
        shape = ", ".join(dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim)
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        parts.append(f"{value.name} {kind} ({shape})")
    return "; ".join(parts) or "none"
