"""A graph from elsewhere that draws, as a bundle has it: a generator, or the decoder of an autoencoder.

    model -> as it came -> its input, output, layout and range -> noise (N, Z), images uint8 NHWC -> optimise -> Drawing

What the bundle must agree with is the file as it came. What its pixels mean is found by the end of the graph and by what it
draws, unless an option says it, and told.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime

from export.errors import ExportError, ImportRefused
from export.golden import golden_inputs
from export.graphs import BATCH, to_proto
from export.onnx_import.adapters import adapt_inputs
from export.onnx_import.by_row import by_row
from export.onnx_import.checks import check_conversion, check_rows, of_any_batch
from export.onnx_import.conversion import convert
from export.onnx_import.file import described
from export.onnx_import.options import ImportOptions
from export.onnx_import.pixel_format import PixelFormat, pixel_format
from export.onnx_import.precision import check_precision, in_single
from export.onnx_import.reference import Reference
from export.onnx_import.signature import UNSCALED, Scaling, Signature, signature_of
from export.onnx_import.truncation import with_truncation
from export.optimise import optimise
from export.pixels import IMAGES
from export.sessions import Arrays
from export.source import HELD_OUT, NO_DATA, Data
from figment.v1.manifest_pb2 import Manifest
from training.errors import DataError
from training.sources import load

FAMILY = "imported"

TRIAL_IMAGES = 16
SAMPLE_VALUES = 2**22
SAMPLE_IMAGES = 256
"""Images from which a range is told at most, and values, beyond TRIAL_IMAGES of them."""

SLOW = (
    "draws one image after the other, as a batch of 1 is baked into {}: N images take N times as long, in a batch too; exported "
    "with a batch axis that is dynamic (torch.onnx.export: dynamic_shapes, or dynamic_axes) it would be quick"
)


@dataclass(frozen=True)
class Drawing:
    """A file that draws, ready to be served.

    graph        noise (N, Z) [, label (N,)] -> images uint8 NHWC
    reference    the file as it came: the same inputs -> images as unrounded grey levels (N, H, W, C) float32
    noise_shape  sizes of the noise that the file takes, after its batch
    note         what was found, in words
    """

    graph: onnx.ModelProto
    reference: Callable[[Arrays], Arrays]
    format: PixelFormat
    noise_shape: list[int]
    note: str

    @property
    def noise_dim(self) -> int:
        """Numbers that an image is drawn from."""
        return prod(self.noise_shape)

    @property
    def latent_shape(self) -> list[int]:
        """C, H, W of noise that is a map, channels first; empty where it is a vector."""
        is_map = sum(size > 1 for size in self.noise_shape) > 1 and self.format.pixels.layout == "NCHW"
        return self.noise_shape if is_map else []


def drawing_of(name: str, model: onnx.ModelProto, options: ImportOptions, scaling: Scaling = UNSCALED) -> Drawing:
    """name: of the file, for messages. scaling: of its latents, where it is a decoder. Raises: ImportRefused, ExportError."""
    notes = [with_truncation(model, options.truncation)]
    as_it_came, (model, precision) = model, in_single(model)
    signature = signature_of(model, options, scaling)
    output, labels = signature.pixels.name, len(options.labels)
    reference = Reference(name, model)
    trial = golden_inputs(TRIAL_IMAGES, signature.noise_dim, labels)
    model, baked = of_any_batch(name, model, reference, signature.feed(trial), [output])
    (drawn,) = check_rows(name, reference, signature.feed(trial), [output])
    rows = int(np.clip(SAMPLE_VALUES // drawn[0].size, TRIAL_IMAGES, SAMPLE_IMAGES))
    drawn = reference(signature.feed(golden_inputs(rows, signature.noise_dim, labels)))[output]
    pixels, words = pixel_format(model, output, drawn, options)
    notes += [words, SLOW.format(baked) if baked else ""]

    def levels(found: Arrays) -> npt.NDArray[np.float32]:
        return pixels.grey_levels(found[output])

    expected = pixels.grey_levels(drawn[:TRIAL_IMAGES])
    if precision:
        feed = signature.feed(trial)
        error = check_precision(name, as_it_came, feed, expected, levels, is_by_row=bool(baked))
        notes.append(f"computed in single instead of {precision} precision: {error}")
    imported = convert(name, model)
    if baked:
        imported = by_row(imported)
    check_conversion(name, imported, signature.feed(trial), expected, levels)
    return Drawing(
        graph=_served(imported, signature, pixels, drawn.shape),
        reference=lambda inputs: {IMAGES: levels(reference(signature.feed(inputs)))},
        format=pixels,
        noise_shape=signature.noise_shape,
        note=f"{name}: {_tensors(signature)} -> {described([signature.pixels])}; {'; '.join(filter(None, notes))}",
    )


def facts_of(drawing: Drawing, options: ImportOptions, files: str) -> Manifest:
    """What a bundle's manifest tells of it. files: names of what it was imported from."""
    height, width, channels = drawing.format.size
    facts = Manifest(
        family=FAMILY,
        height=height,
        width=width,
        channels=channels,
        noise_dim=drawing.noise_dim,
        latent_dim=drawing.noise_dim,
        latent_shape=drawing.latent_shape,
        labels=options.labels,
    )
    facts.provenance.run = files
    facts.provenance.data = options.data or ""
    facts.provenance.versions.update({"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__})
    return facts


def real_data(data: str | None, size: int) -> Data:
    """Real images of `size` pixels to judge by. Raises: ExportError, if there are none."""
    if data is None:
        raise ExportError(NO_DATA)
    try:
        return Data(*load(data, size).split(HELD_OUT, seed=0))
    except DataError as error:
        raise ExportError(str(error)) from error


@contextmanager
def told_in_a_line(name: str) -> Iterator[None]:
    """Raises: ImportRefused for whatever onnx and its tools raise of the file `name` in the block; it has no base class."""
    try:
        yield
    except (ExportError, MemoryError, OSError):
        raise
    except Exception as error:
        cause: BaseException = error  # the last cause is what happened
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ImportRefused(
            f"{name}: onnx cannot work on it, {type(cause).__name__}: {' '.join(str(cause).split())[:300] or 'no words'}; "
            "is the file damaged? Else export it anew, or simplify it (onnxslim)"
        ) from error


def _served(
    imported: onnx.ModelProto, signature: Signature, pixels: PixelFormat, shape: tuple[int, ...]
) -> onnx.ModelProto:
    """The graph with the names, shapes and types of a bundle."""
    model = ir.serde.deserialize_model(imported)
    model.graph.outputs[0].shape = ir.Shape([BATCH, *shape[1:]])
    adapt_inputs(model, signature)
    pixels.append(model)
    optimise(model)
    return to_proto(model)


def _tensors(signature: Signature) -> str:
    label = [signature.label.value] if signature.label is not None else []
    return described([signature.noise, *label, *signature.empty])
