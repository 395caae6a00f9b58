"""A generator that was trained elsewhere, as a source of a bundle.

    ONNX file -> as it came -> its input, output, layout and range -> noise (N, Z), images uint8 NHWC -> optimise -> Source

What the bundle must agree with is the file as it came. What its pixels mean is found by the end of the graph and by what it
draws, unless an option says it, and told.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime

from export import pixel_evidence
from export.errors import ExportError, ImportRefused
from export.golden import golden_inputs
from export.graphs import BATCH, OPSET, to_proto
from export.onnx_file import PREFIX, Reference, baked_in, converted, read, with_free_batch
from export.optimise import optimise
from export.pixel_evidence import Layout, Range
from export.pixels import IMAGES, Pixels, append_bytes
from export.sessions import Arrays
from export.source import Data, Source
from figment.v1.manifest_pb2 import Manifest
from training.errors import DataError
from training.sources import load

FAMILY = "imported"

TRIED_IMAGES = 16
LOOKED_AT_VALUES = 2**22
LOOKED_AT_IMAGES = 256
"""Images from which a range is told at most, and values, beyond TRIED_IMAGES of them."""

CHANGED = 0.01
"""Grey levels by which a conversion to another opset may change what is drawn."""

SAME = 0.01
"""Part of the largest value by which the same noise may give other values, by the order of sums: `verify` wants the same bytes."""

HELD_OUT = 0.2
"""Part of the real images that the quality of reconstructions would be measured on; distances take the others."""


class _Tensors(NamedTuple):
    """The inputs and the output of the file by their roles."""

    noise: onnx.ValueInfoProto
    label: onnx.ValueInfoProto | None
    pixels: onnx.ValueInfoProto

    def given(self, inputs: Arrays) -> Arrays:
        """A bundle's inputs by the file's names, in its shapes."""
        noise = inputs["noise"]
        given = {self.noise.name: noise.reshape(len(noise), *_noise_shape(self.noise))}
        return given if self.label is None else {**given, self.label.name: inputs["label"]}


def from_onnx(
    file: Path,
    layout: Layout = "auto",
    value_range: Range = "auto",
    labels: Sequence[str] = (),
    data: str | None = None,
) -> Source:
    """The generator in `file`: noise (N, Z) or (N, Z, 1, 1) float32 [, label (N,)] -> images of 4 axes, float32 or uint8.

    labels: names of the classes, where there is an input for them. data: real images, to judge lossy variants by.

    Raises: ImportRefused, naming the tensor, what came and what is allowed; ExportError.
    """
    try:
        return _source(file, layout, value_range, labels, data)
    except (ExportError, MemoryError, OSError):
        raise
    except (
        Exception
    ) as error:  # what onnx and its tools raise over a file has no base class; the last cause is what happened
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ImportRefused(
            f"{file.name}: onnx cannot work on it, {type(cause).__name__}: {' '.join(str(cause).split())[:300] or 'no words'}; "
            "is the file damaged? Else export it anew, or simplify it (onnxslim)"
        ) from error


def _source(file: Path, layout: Layout, value_range: Range, labels: Sequence[str], data: str | None) -> Source:
    model = read(file)
    tensors = _tensors(model, labels)
    noise_shape = _noise_shape(tensors.noise)
    reference = Reference(file.name, model)
    tried = golden_inputs(TRIED_IMAGES, noise_shape[0], len(labels))
    model = _of_any_batch(file.name, model, reference, tensors.given(tried), tensors.pixels.name)
    pixels_each = _check_rows(file.name, reference, tensors, tried)
    rows = int(np.clip(LOOKED_AT_VALUES // pixels_each, TRIED_IMAGES, LOOKED_AT_IMAGES))
    looked_at = golden_inputs(rows, noise_shape[0], len(labels))
    drawn = reference(tensors.given(looked_at))[tensors.pixels.name]
    pixels, words = pixel_evidence.found(model, tensors.pixels.name, drawn, layout, value_range)
    height, width, channels = pixels.grey_levels(drawn[:1]).shape[1:]
    facts = Manifest(
        family=FAMILY,
        height=height,
        width=width,
        channels=channels,
        noise_dim=noise_shape[0],
        latent_dim=noise_shape[0],
        labels=labels,
    )
    facts.provenance.run = file.name
    facts.provenance.data = data or ""
    facts.provenance.versions.update({"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__})
    foreign = converted(file.name, model)
    _check_conversion(file.name, foreign, tensors, tried, pixels.grey_levels(drawn[:TRIED_IMAGES]), pixels)
    return Source(
        facts=facts,
        graphs={"generator": _served(foreign, tensors, pixels, drawn.shape)},
        networks=lambda _, inputs: {IMAGES: pixels.grey_levels(reference(tensors.given(inputs))[tensors.pixels.name])},
        data=lambda: _data(data, height),
        found=f"{file.name}: {_described([tensors.noise])} -> {_described([tensors.pixels])}; {words}",
    )


def _of_any_batch(
    name: str, model: onnx.ModelProto, reference: Reference, given: Arrays, pixels: str
) -> onnx.ModelProto:
    """`model`, if it draws as many images as it gets noise; else with the row that is baked in set free.

    Raises: ImportRefused, if it does not run, or is made for one row alone.
    """
    rows = len(next(iter(given.values())))
    try:
        if len(reference(given)[pixels]) == rows:
            return model
        problem = f"{name}: gives {len(reference(given)[pixels])} images for {rows} rows of noise"
    except ImportRefused as error:
        problem = str(error)
    reference.run_by_row()
    try:
        by_row = reference(given)[pixels]
    except ImportRefused:
        raise ImportRefused(problem) from None
    if len(by_row) != rows:
        raise ImportRefused(f"{name}: gives {len(by_row)} images for {rows} rows of noise, one after the other")
    freed = with_free_batch(model)
    try:
        together = Reference(name, freed)(given)[pixels]
    except ImportRefused:
        together = by_row[:0]
    if together.shape != by_row.shape or not np.allclose(together, by_row, rtol=1e-4, atol=1e-4, equal_nan=True):
        raise ImportRefused(
            f"{name}: draws one image at a time, a batch of 1 is baked into {baked_in(model)}; export it with a batch axis "
            "that is dynamic: torch.onnx.export takes dynamic_shapes, or dynamic_axes"
        )
    return freed


def _check_rows(name: str, reference: Reference, tensors: _Tensors, tried: Arrays) -> int:
    """The number of an image's values, where the same noise gives the same image whatever it is drawn beside."""
    wanted = tensors.pixels.name
    first, alone = tensors.given(tried), tensors.given({key: array[:1] for key, array in tried.items()})
    together, again, one = reference(first)[wanted], reference(first)[wanted], reference(alone)[wanted]
    near = SAME * float(np.nan_to_num(np.abs(together).max(), posinf=0.0))
    if not np.allclose(together, again, rtol=0, atol=near, equal_nan=True):
        raise ImportRefused(
            f"{name}: draws other images of the same noise when it is run again; export it without noise of its own, in "
            "eval mode"
        )
    if not np.allclose(together[:1], one, rtol=0, atol=near, equal_nan=True):
        raise ImportRefused(
            f"{name}: an image depends on the others of its batch (statistics of a batch, a softmax or mean over axis 0); "
            "callers' images are drawn beside each other: export it in eval mode"
        )
    return int(one.size)


def _check_conversion(
    name: str,
    foreign: onnx.ModelProto,
    tensors: _Tensors,
    tried: Arrays,
    expected: npt.NDArray[np.float32],
    pixels: Pixels,
) -> None:
    """Raises: ImportRefused, if the converted graph is another function than the file."""
    given = {PREFIX + key: array for key, array in tensors.given(tried).items()}
    got = pixels.grey_levels(Reference(name, foreign)(given)[PREFIX + tensors.pixels.name])
    error = float(np.abs(got - expected).max())
    # Written so that NaN is refused.
    if not error <= CHANGED:
        raise ImportRefused(
            f"{name}: converted to opset {OPSET} by onnx, it draws other images, off by {error:.3g} grey levels; export it "
            f"with opset {OPSET}, which torch.onnx.export takes as opset_version"
        )


def _tensors(foreign: onnx.ModelProto, labels: Sequence[str]) -> _Tensors:
    inputs = list(foreign.graph.input)
    noise = [value for value in inputs if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    label = [value for value in inputs if value.type.tensor_type.elem_type == onnx.TensorProto.INT64]
    if len(noise) != 1 or len(label) > 1 or len(noise) + len(label) != len(inputs):
        raise ImportRefused(
            f"inputs: got {_described(inputs)}; allowed are noise, float32 (N, Z) or (N, Z, 1, 1), and a label, int64 (N,)"
        )
    if len(foreign.graph.output) != 1:
        raise ImportRefused(f"outputs: got {_described(foreign.graph.output)}; allowed is one, the images")
    if bool(label) != bool(labels):
        wanted = (
            "has an input for a label: --labels tells the names of its classes" if label else "has no input for a label"
        )
        raise ImportRefused(f"labels: got {len(labels)}, but the graph {wanted}")
    _noise_shape(noise[0])
    if label and len(label[0].type.tensor_type.shape.dim) != 1:
        raise ImportRefused(f"label: got {_described(label)}; allowed is int64 (N,), one number a row")
    return _Tensors(noise[0], label[0] if label else None, foreign.graph.output[0])


def _noise_shape(noise: onnx.ValueInfoProto) -> list[int]:
    """The sizes of noise after its batch: Z, or Z, 1, 1."""
    sizes = [dim.dim_value for dim in noise.type.tensor_type.shape.dim][1:]
    if not sizes or sizes[0] < 1 or sizes[1:] not in ([], [1, 1]):
        raise ImportRefused(f"noise: got {_described([noise])}; allowed are (N, Z) and (N, Z, 1, 1), Z a number")
    return sizes


def _described(values: Sequence[onnx.ValueInfoProto]) -> str:
    """Names, types and shapes as people write them."""
    parts = []
    for value in values:
        tensor = value.type.tensor_type
        shape = ", ".join(dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim)
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        parts.append(f"{value.name} {kind} ({shape})")
    return "; ".join(parts) or "none"


def _served(foreign: onnx.ModelProto, tensors: _Tensors, pixels: Pixels, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The graph with the names, shapes and types of a bundle."""
    model = ir.serde.deserialize_model(foreign)
    graph = model.graph
    for place, value in enumerate(graph.inputs):
        if value.name == PREFIX + tensors.noise.name:
            noise = ir.Value(name="noise", type=value.type, shape=ir.Shape([BATCH, _noise_shape(tensors.noise)[0]]))
            graph.inputs[place] = noise
            wanted = ir.Value(
                name="noise_shape", const_value=ir.tensor([0, *_noise_shape(tensors.noise)], name="noise_shape")
            )
            graph.register_initializer(wanted)
            reshape = ir.Node("", "Reshape", [noise, wanted])
            value.replace_all_uses_with(reshape.outputs[0])
            graph.insert_before(graph[0], reshape)
        elif tensors.label is not None and value.name == PREFIX + tensors.label.name:
            value.name = "label"
    graph.inputs[:] = sorted(graph.inputs, key=lambda value: value.name == "label")
    graph.outputs[0].shape = ir.Shape([BATCH, *shape[1:]])
    append_bytes(model, pixels)
    optimise(model)
    return to_proto(model)


def _data(data: str | None, size: int) -> Data:
    if data is None:
        raise ExportError("quality is measured against real images: --data tells where they are")
    try:
        return Data(*load(data, size).split(HELD_OUT, seed=0))
    except DataError as error:
        raise ExportError(str(error)) from error
