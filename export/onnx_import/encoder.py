"""The encoder of an autoencoder from elsewhere, as a bundle has it.

    model, its decoder -> as it came -> input as the decoder gives images, outputs as it takes latents -> Encoding
    Encoding: images uint8 NHWC -> mean, log_variance (N, Z)

It takes the values that its decoder gives: the same black and white.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from export.errors import ImportRefused
from export.golden import golden_inputs
from export.graphs import BATCH, to_proto
from export.onnx_import.by_row import by_row
from export.onnx_import.checks import check_conversion, check_rows, of_any_batch
from export.onnx_import.conversion import PREFIX, convert
from export.onnx_import.drawing import SLOW, TRIAL_IMAGES, Drawing
from export.onnx_import.file import described
from export.onnx_import.image_input import ImageInput, image_input
from export.onnx_import.options import ImportOptions
from export.onnx_import.outputs import keep_outputs
from export.onnx_import.posterior import Posterior, posterior_of
from export.onnx_import.precision import check_precision, in_single
from export.onnx_import.reference import Reference
from export.onnx_import.signature import Scaling
from export.optimise import optimise
from export.pixels import IMAGES, to_bytes
from export.sessions import Arrays

CONVERSION_RELATIVE = 1e-4
"""Part of the largest latent, or of one, by which a conversion to another opset may change latents."""

PRECISION_RELATIVE = 0.01
"""The same for the mean error that half precision may make."""


@dataclass(frozen=True)
class Encoding:
    """A file that encodes, ready to be served.

    graph      images uint8 NHWC -> mean, log_variance (N, Z) float32
    reference  the file as it came: the same inputs -> the same outputs
    note       what was found, in words
    """

    graph: onnx.ModelProto
    reference: Callable[[Arrays], Arrays]
    note: str


def encoding_of(
    name: str, model: onnx.ModelProto, drawing: Drawing, latent: list[int], scaling: Scaling, options: ImportOptions
) -> Encoding:
    """name: of the file, for messages. latent: shape of what the decoder takes. Raises: ImportRefused, ExportError."""
    as_it_came, (model, precision) = model, in_single(model)
    images = image_input(model, drawing.format)
    trial = golden_inputs(TRIAL_IMAGES, drawing.noise_dim, 0)
    feed = images.feed(to_bytes(drawing.reference(trial)[IMAGES]))
    first = {key: array[:1] for key, array in feed.items()}
    shapes = {key: list(array.shape[1:]) for key, array in Reference(name, model, "images")(first).items()}
    posterior = posterior_of(model, shapes, latent, scaling, options)
    keep_outputs(model, [each for wanted in posterior.outputs for each in model.graph.output if each.name == wanted])
    reference = Reference(name, model, "images")
    model, baked = of_any_batch(name, model, reference, feed, posterior.outputs)
    found = dict(zip(posterior.outputs, check_rows(name, reference, feed, posterior.outputs), strict=True))
    mean = posterior.of(found)["mean"]
    if not np.isfinite(mean).all():
        raise ImportRefused(
            f"{name}: gives latents that are infinite or no numbers (NaN) of images that its decoder drew"
        )
    largest = max(float(np.abs(mean).max()), 1.0)

    def means(got: Arrays) -> npt.NDArray[np.float32]:
        return posterior.of(got)["mean"]

    notes = [posterior.words, SLOW.format(baked) if baked else ""]
    if precision:
        allowed = PRECISION_RELATIVE * largest
        error = check_precision(name, as_it_came, feed, mean, means, allowed, "in its latents", is_by_row=bool(baked))
        notes.append(f"computed in single instead of {precision} precision: {error}")
    imported = convert(name, model)
    if baked:
        imported = by_row(imported)
    check_conversion(name, imported, feed, mean, means, CONVERSION_RELATIVE * largest, "in its latents")
    return Encoding(
        graph=_served(imported, images, posterior),
        reference=lambda inputs: posterior.of(reference(images.feed(inputs[IMAGES]))),
        note=f"{name}: {described([images.value])} -> {described(model.graph.output)}; {'; '.join(filter(None, notes))}",
    )


def _served(imported: onnx.ModelProto, images: ImageInput, posterior: Posterior) -> onnx.ModelProto:
    """The graph with the names, shapes and types of a bundle."""
    model = ir.serde.deserialize_model(imported)
    graph = model.graph
    height, width, channels = images.size
    given = ir.val(IMAGES, ir.DataType.UINT8, [BATCH, height, width, channels])
    tape = ir.tape.Tape()
    graph.inputs[0].replace_all_uses_with(images.append(tape, given))
    graph.inputs[:] = [given]
    for initializer in tape.initializers:
        graph.register_initializer(initializer)
    graph.insert_before(graph[0], tape.nodes)
    outputs = {(value.name or "").removeprefix(PREFIX): value for value in graph.outputs}
    graph.outputs[:] = posterior.append(ir.tape.Tape(graph), [outputs[each] for each in posterior.outputs])
    optimise(model)
    return to_proto(model)
