"""A generator that was trained elsewhere, as a source of a bundle.

    ONNX file -> its input, output, layout and range -> noise (N, Z), images uint8 NHWC -> optimise -> Source

What the file does not tell is found by running it on noise, unless an option says it. What the bundle must agree with is
the file as it came, run by onnxruntime without its optimisations.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx.compose
import onnx.version_converter
import onnx_ir as ir
import onnxruntime
from google.protobuf.message import DecodeError

from export.errors import ExportError, ImportRefused
from export.golden import golden_inputs
from export.graphs import BATCH, OPSET, to_proto
from export.optimise import optimise
from export.pixels import IMAGES, Pixels, append_bytes
from export.source import Data, Source
from export.verify import Arrays
from figment.v1.manifest_pb2 import Manifest
from training.errors import DataError
from training.sources import load

Layout = Literal["auto", "NCHW", "NHWC"]
Range = Literal["auto", "-1..1", "0..1", "0..255"]

RANGES: dict[str, tuple[float, float]] = {"-1..1": (-1, 1), "0..1": (0, 1), "0..255": (0, 255)}
FAMILY = "imported"

SLACK = 0.01
"""How far values may be outside a range that they are taken for."""

CHANNELS = (1, 3)
TRIED_IMAGES = 16

HELD_OUT = 0.2
"""Part of the real images that the quality of reconstructions would be measured on; distances take the others."""


class _Tensors(NamedTuple):
    """The inputs and the output of the file by their roles."""

    noise: onnx.ValueInfoProto
    label: onnx.ValueInfoProto | None
    pixels: onnx.ValueInfoProto


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
    foreign = _read(file)
    tensors = _tensors(foreign, labels)
    noise_dim = _noise_shape(tensors.noise)[0]
    for value in (*foreign.graph.input, *foreign.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    del foreign.graph.value_info[:]  # they tell the batch that the file was made with
    network = _Network(foreign, tensors)
    try:
        tried = network(golden_inputs(TRIED_IMAGES, noise_dim, len(labels)))
    except Exception as error:  # onnxruntime's own exceptions share no base class
        raise ImportRefused(f"{file.name}: does not run on {TRIED_IMAGES} rows of noise: {str(error)[:300]}") from None
    pixels = _pixels(tensors.pixels.name, tried, layout, value_range)
    height, width, channels = pixels.grey_levels(tried).shape[1:]
    facts = Manifest(
        family=FAMILY,
        height=height,
        width=width,
        channels=channels,
        noise_dim=noise_dim,
        latent_dim=noise_dim,
        labels=labels,
    )
    facts.provenance.run = file.name
    facts.provenance.data = data or ""
    facts.provenance.versions.update({"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__})
    return Source(
        facts=facts,
        graphs={"generator": _served(foreign, tensors, pixels, tried.shape)},
        networks=lambda _, inputs: {IMAGES: pixels.grey_levels(network(inputs))},
        data=lambda: _data(data, height),
    )


class _Network:
    """The file as it came: noise (N, Z) [, label] -> pixels, by onnxruntime without its optimisations."""

    def __init__(self, foreign: onnx.ModelProto, tensors: _Tensors) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        content = foreign.SerializeToString()
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # as above
            raise ImportRefused(f"onnxruntime cannot load the graph: {str(error)[:300]}") from None
        self._tensors = tensors

    def __call__(self, inputs: Arrays) -> npt.NDArray[np.generic]:
        noise = inputs["noise"]
        given = {self._tensors.noise.name: noise.reshape(len(noise), *_noise_shape(self._tensors.noise))}
        if self._tensors.label is not None:
            given[self._tensors.label.name] = inputs["label"]
        pixels: npt.NDArray[np.generic] = self._session.run([self._tensors.pixels.name], given)[0]
        return pixels


def _read(file: Path) -> onnx.ModelProto:
    """The file with all names prefixed, so that they cannot be those of what is added."""
    try:
        foreign = onnx.load(file)
        onnx.checker.check_model(foreign, full_check=True)
    except (OSError, DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ImportRefused(f"{file} is no ONNX file that can be read: {str(error)[:300]}") from None
    if all(each.domain or each.version < OPSET for each in foreign.opset_import):
        try:
            foreign = onnx.version_converter.convert_version(foreign, OPSET)
        except RuntimeError as error:
            raise ImportRefused(f"{file.name}: cannot be converted to opset {OPSET}: {str(error)[:300]}") from None
    return onnx.compose.add_prefix(foreign, "foreign/")


def _tensors(foreign: onnx.ModelProto, labels: Sequence[str]) -> _Tensors:
    weights = {tensor.name for tensor in foreign.graph.initializer}
    inputs = [value for value in foreign.graph.input if value.name not in weights]
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
        parts.append(f"{value.name.removeprefix('foreign/')} {kind} ({shape})")
    return "; ".join(parts) or "none"


def _pixels(name: str, tried: npt.NDArray[np.generic], layout: Layout, value_range: Range) -> Pixels:
    """Layout and range of the images `tried`, by the options or by what they look like."""
    name = name.removeprefix("foreign/")
    if tried.ndim != 4 or tried.dtype not in (np.float32, np.uint8):
        raise ImportRefused(f"{name}: got {tried.dtype} {tried.shape}; allowed are float32 and uint8 of 4 axes")
    found = [
        each for each, axis in (("NCHW", 1), ("NHWC", 3)) if tried.shape[axis] in CHANNELS and layout in (each, "auto")
    ]
    if len(found) != 1:
        raise ImportRefused(
            f"{name}: got {tried.shape} and --layout {layout}; images have {' or '.join(map(str, CHANNELS))} channels, "
            f"in axis 1 (NCHW) or 3 (NHWC)"
        )
    if tried.dtype == np.uint8:
        return Pixels(found[0], 0, 255)  # type: ignore[arg-type]
    low, high = float(tried.min()), float(tried.max())
    if value_range == "auto":
        fitting = [each for each, (black, white) in RANGES.items() if black - SLACK <= low and high <= white + SLACK]
        # What fits 0..1 fits all three: the narrowest range that was not left is meant.
        value_range = "0..1" if "0..1" in fitting else fitting[0] if fitting else "auto"  # type: ignore[assignment]
    if value_range == "auto":
        raise ImportRefused(
            f"{name}: got values from {low:.3g} to {high:.3g} on {TRIED_IMAGES} rows of noise; --range tells what black and "
            f"white are: {', '.join(RANGES)}"
        )
    return Pixels(found[0], *RANGES[value_range])  # type: ignore[arg-type]


def _served(foreign: onnx.ModelProto, tensors: _Tensors, pixels: Pixels, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The graph with the names, shapes and types of a bundle."""
    model = ir.serde.deserialize_model(foreign)
    graph = model.graph
    for place, value in enumerate(graph.inputs):
        if value.name == tensors.noise.name:
            noise = ir.Value(name="noise", type=value.type, shape=ir.Shape([BATCH, _noise_shape(tensors.noise)[0]]))
            graph.inputs[place] = noise
            wanted = ir.Value(
                name="noise_shape", const_value=ir.tensor([0, *_noise_shape(tensors.noise)], name="noise_shape")
            )
            graph.register_initializer(wanted)
            reshape = ir.Node("", "Reshape", [noise, wanted])
            value.replace_all_uses_with(reshape.outputs[0])
            graph.insert_before(graph[0], reshape)
        elif tensors.label is not None and value.name == tensors.label.name:
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
