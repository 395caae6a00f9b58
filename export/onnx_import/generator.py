"""A generator that was trained elsewhere, as a source of a bundle.

    ONNX file -> as it came -> its input, output, layout and range -> noise (N, Z), images uint8 NHWC -> optimise -> Source

What the bundle must agree with is the file as it came. What its pixels mean is found by the end of the graph and by what it
draws, unless an option says it, and told.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from export.errors import ExportError, ImportRefused
from export.golden import golden_inputs
from export.graphs import BATCH, to_proto
from export.onnx_import.checks import check_conversion, check_rows, of_any_batch
from export.onnx_import.conversion import PREFIX, convert
from export.onnx_import.file import described, read
from export.onnx_import.pixel_format import Layout, Range, pixel_format
from export.onnx_import.reference import Reference
from export.onnx_import.signature import Signature, signature_of
from export.optimise import optimise
from export.pixels import IMAGES, Pixels, append_bytes
from export.source import HELD_OUT, Data, Source
from figment.v1.manifest_pb2 import Manifest
from training.errors import DataError
from training.sources import load

FAMILY = "imported"

TRIAL_IMAGES = 16
SAMPLE_VALUES = 2**22
SAMPLE_IMAGES = 256
"""Images from which a range is told at most, and values, beyond TRIAL_IMAGES of them."""


def from_onnx(
    file: Path,
    layout: Layout = "auto",
    value_range: Range = "auto",
    labels: Sequence[str] = (),
    data: str | None = None,
) -> Source:
    """The generator in `file`: noise (N, Z) or (N, Z, 1, 1) float32 [, label (N,)] -> images of 4 axes, float32 or uint8.

    labels: names of the classes, where there is an input for them. data: real images, to compare lossy variants by.

    Raises: ImportRefused, naming the tensor, what came and what is allowed; ExportError.
    """
    try:
        return _source(file, layout, value_range, labels, data)
    except (ExportError, MemoryError, OSError):
        raise
    except Exception as error:  # what onnx and its tools raise has no base class; the last cause is what happened
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ImportRefused(
            f"{file.name}: onnx cannot work on it, {type(cause).__name__}: {' '.join(str(cause).split())[:300] or 'no words'}; "
            "is the file damaged? Else export it anew, or simplify it (onnxslim)"
        ) from error


def _source(file: Path, layout: Layout, value_range: Range, labels: Sequence[str], data: str | None) -> Source:
    model = read(file)
    signature = signature_of(model, labels)
    noise_dim = signature.noise_shape[0]
    reference = Reference(file.name, model)
    trial = golden_inputs(TRIAL_IMAGES, noise_dim, len(labels))
    model = of_any_batch(file.name, model, reference, signature.feed(trial), signature.pixels.name)
    pixels_each = check_rows(file.name, reference, signature, trial)
    rows = int(np.clip(SAMPLE_VALUES // pixels_each, TRIAL_IMAGES, SAMPLE_IMAGES))
    sample = golden_inputs(rows, noise_dim, len(labels))
    drawn = reference(signature.feed(sample))[signature.pixels.name]
    pixels, words = pixel_format(model, signature.pixels.name, drawn, layout, value_range)
    height, width, channels = pixels.grey_levels(drawn[:1]).shape[1:]
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
    imported = convert(file.name, model)
    check_conversion(file.name, imported, signature, trial, pixels.grey_levels(drawn[:TRIAL_IMAGES]), pixels)
    return Source(
        facts=facts,
        graphs={"generator": _served(imported, signature, pixels, drawn.shape)},
        networks=lambda _, inputs: {
            IMAGES: pixels.grey_levels(reference(signature.feed(inputs))[signature.pixels.name])
        },
        data=lambda: _data(data, height),
        note=f"{file.name}: {described([signature.noise])} -> {described([signature.pixels])}; {words}",
    )


def _served(imported: onnx.ModelProto, signature: Signature, pixels: Pixels, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The graph with the names, shapes and types of a bundle."""
    model = ir.serde.deserialize_model(imported)
    graph = model.graph
    for place, value in enumerate(graph.inputs):
        if value.name == PREFIX + signature.noise.name:
            noise = ir.Value(name="noise", type=value.type, shape=ir.Shape([BATCH, signature.noise_shape[0]]))
            graph.inputs[place] = noise
            tensor = ir.tensor([0, *signature.noise_shape], name="noise_shape")
            shape_of_noise = ir.Value(name="noise_shape", const_value=tensor)
            graph.register_initializer(shape_of_noise)
            reshape = ir.Node("", "Reshape", [noise, shape_of_noise])
            value.replace_all_uses_with(reshape.outputs[0])
            graph.insert_before(graph[0], reshape)
        elif signature.label is not None and value.name == PREFIX + signature.label.name:
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
