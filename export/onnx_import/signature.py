"""The inputs and the output of a generator from elsewhere, by their roles in a bundle.

model, options -> signature_of() -> Signature: noise [, label] -> pixels

Each role has the forms that people export. `feed` makes them of a bundle's inputs in numpy, for the file as it came;
`adapters` makes the same in the graph.
"""

from math import prod
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from export.errors import ImportRefused
from export.onnx_import.file import FLOATS, described
from export.onnx_import.options import ImportOptions
from export.onnx_import.outputs import only_output
from export.sessions import Arrays

_INTEGERS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)

ALLOWED = (
    "noise, floats (N, Z), (N, Z, 1, 1), (N, 1, 1, Z) or (N, C, H, W), and a label, integers (N,) or (N, 1), or one-hot"
)


class Label(NamedTuple):
    """An input for a label. form: a number a row (N,), the same in a column (N, 1), or a one in `classes` zeros (N, K)."""

    value: onnx.ValueInfoProto
    form: Literal["index", "column", "one-hot"]
    classes: int

    def of(self, labels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """labels: (N,) int64. Returns them in the file's own form and type."""
        if self.form == "one-hot":
            ones: npt.NDArray[np.generic] = np.equal.outer(labels, np.arange(self.classes)).astype(dtype_of(self.value))
            return ones
        column = labels[:, None] if self.form == "column" else labels
        return column.astype(dtype_of(self.value))


class Scaling(NamedTuple):
    """Between a bundle's latents and a file's: latent = (the file's - shift) * factor."""

    factor: float = 1.0
    shift: float = 0.0

    def undone(self, latents: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The file's latents."""
        return latents / np.float32(self.factor) + np.float32(self.shift)


UNSCALED = Scaling()


class Signature(NamedTuple):
    """The file's tensors by their roles.

    noise_shape  sizes of the noise after its batch: Z; Z, 1, 1; 1, 1, Z; C, H, W
    empty        inputs of no values, (N, 0), as StyleGAN has for labels where there are no classes
    """

    noise: onnx.ValueInfoProto
    noise_shape: list[int]
    label: Label | None
    empty: list[onnx.ValueInfoProto]
    pixels: onnx.ValueInfoProto
    scaling: Scaling = UNSCALED

    @property
    def noise_dim(self) -> int:
        """Numbers that an image is drawn from."""
        return prod(self.noise_shape)

    def feed(self, inputs: Arrays) -> Arrays:
        """A bundle's inputs under the names, in the shapes and of the types of the file's own."""
        noise = self.scaling.undone(inputs["noise"]).reshape(-1, *self.noise_shape)
        feed: Arrays = {self.noise.name: noise.astype(dtype_of(self.noise))}
        if self.label is not None:
            feed[self.label.value.name] = self.label.of(inputs["label"])
        return feed | {each.name: np.zeros((len(noise), 0), dtype_of(each)) for each in self.empty}


def signature_of(model: onnx.ModelProto, options: ImportOptions, scaling: Scaling = UNSCALED) -> Signature:
    """Leaves `model` the output that is taken. Raises: ImportRefused, if its tensors are none of a generator."""
    inputs = list(model.graph.input)
    empty = [each for each in inputs if _is_empty(each)]
    others = [each for each in inputs if each not in empty]
    noise = _noise(others, options)
    labels = [each for each in others if each is not noise]
    if len(labels) > 1 or any(each.type.tensor_type.elem_type not in (*_INTEGERS, *FLOATS) for each in labels):
        raise ImportRefused(f"inputs: got {described(inputs)}; allowed are {ALLOWED}")
    if bool(labels) != bool(options.labels):
        problem = (
            f"has an input for a label, {described(labels)}: --labels tells the names of its classes"
            if labels
            else "has no input for a label"
        )
        raise ImportRefused(f"labels: got {len(options.labels)}, but the graph {problem}")
    label = _label(labels[0], len(options.labels)) if labels else None
    return Signature(noise, _noise_shape(noise), label, empty, only_output(model, options), scaling)


def dtype_of(value: onnx.ValueInfoProto) -> np.dtype[np.generic]:
    """The type of its elements."""
    dtype: np.dtype[np.generic] = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return dtype


def _noise(inputs: list[onnx.ValueInfoProto], options: ImportOptions) -> onnx.ValueInfoProto:
    candidates = [each for each in inputs if each.type.tensor_type.elem_type in FLOATS]
    if options.noise:
        candidates = [each for each in candidates if each.name == options.noise]
        if not candidates:
            raise ImportRefused(f"noise: got {options.noise!r}; the inputs are {described(inputs)}")
    elif len(candidates) > 1 and options.labels:
        one_hot = [each for each in candidates if sizes_of(each) in ([len(options.labels)], [None])]
        if len(one_hot) == 1:
            candidates = [each for each in candidates if each is not one_hot[0]]
    if len(candidates) != 1:
        hint = (
            "; --noise tells which is the noise, --labels the classes of a label that is one-hot" if candidates else ""
        )
        raise ImportRefused(f"inputs: got {described(inputs)}; allowed are {ALLOWED}{hint}")
    return candidates[0]


def _label(value: onnx.ValueInfoProto, classes: int) -> Label:
    sizes, has_batch = sizes_of(value), bool(value.type.tensor_type.shape.dim)
    if value.type.tensor_type.elem_type in _INTEGERS and has_batch and sizes in ([], [1]):
        return Label(value, "column" if sizes else "index", classes)
    if value.type.tensor_type.elem_type in FLOATS and sizes in ([classes], [None]):
        return Label(value, "one-hot", classes)
    raise ImportRefused(
        f"label: got {described([value])} and {classes} names; allowed are integers (N,) or (N, 1), one number a row, and floats "
        "(N, K), a one in as many zeros as --labels has names"
    )


def _noise_shape(noise: onnx.ValueInfoProto) -> list[int]:
    sizes = sizes_of(noise)
    known = [size for size in sizes if size]
    if len(sizes) not in (1, 3) or len(known) < len(sizes):
        raise ImportRefused(
            f"noise: got {described([noise])}; allowed are (N, Z), (N, Z, 1, 1), (N, 1, 1, Z) and maps (N, C, H, W), their sizes "
            "numbers"
        )
    return known


def _is_empty(value: onnx.ValueInfoProto) -> bool:
    return sizes_of(value) == [0] and value.type.tensor_type.elem_type in (*FLOATS, *_INTEGERS)


def sizes_of(value: onnx.ValueInfoProto) -> list[int | None]:
    """Sizes after the batch; None where they are left open."""
    dims = value.type.tensor_type.shape.dim[1:]
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
