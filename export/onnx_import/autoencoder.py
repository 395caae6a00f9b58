"""An autoencoder that was trained elsewhere, as a source of a bundle.

    encoder's file, decoder's file -> latents of a known shape -> Drawing, Encoding -> Source with a generator and an encoder

Its latents have no prior but N(0, I), so the decoder is the generator too, and noise is the latent. Latents are in the scaled
units that a diffusion model works on: a file's latent, less the shift, times the factor.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from evaluation.reconstruction import psnr_db
from export.errors import ImportRefused
from export.golden import golden_inputs
from export.onnx_import.drawing import TRIAL_IMAGES, Drawing, drawing_of, facts_of, real_data, told_in_a_line
from export.onnx_import.encoder import Encoding, encoding_of
from export.onnx_import.file import FLOATS, described, read
from export.onnx_import.image_input import set_sizes
from export.onnx_import.options import CHANNELS, ImportOptions
from export.onnx_import.reference import Reference
from export.onnx_import.signature import Scaling, dtype_of, sizes_of
from export.pixels import IMAGES, to_bytes
from export.sessions import Arrays
from export.source import Source

NO_PRIOR = (
    "an autoencoder has no prior of its own: Generate draws latents from N(0, I), of which its decoder need not make pictures; "
    "Encode, Decode, Reconstruct and Interpolate are what it is for"
)

_HALVES = ("parameters", "moments")
"""In names of outputs that are mean and log variance."""


def from_autoencoder(encoder: Path, decoder: Path, options: ImportOptions) -> Source:
    """The autoencoder in two files, as diffusers' are exported: images -> latents or their parameters, latents -> images.

    options.output: of the encoder's outputs.

    Raises: ImportRefused, naming the tensor, what came and what is allowed; ExportError.
    """
    scaling = Scaling(options.scaling_factor, options.shift_factor)
    names = [
        f"{file.parent.name}/{file.name}" if encoder.name == decoder.name else file.name for file in (encoder, decoder)
    ]
    with told_in_a_line(names[0]):
        encoding = read(encoder)
    with told_in_a_line(names[1]):
        decoding = read(decoder)
        latent = _latent_shape(names[0], encoding, names[1], decoding, options)
        drawing = drawing_of(names[1], decoding, replace(options, output=""), scaling)
    with told_in_a_line(names[0]):
        encoded = encoding_of(names[0], encoding, drawing, latent, scaling, options)
    return Source(
        facts=facts_of(drawing, options, ", ".join(names)),
        graphs={"generator": drawing.graph, "encoder": encoded.graph},
        networks=lambda role, inputs: (encoded if role == "encoder" else drawing).reference(inputs),
        data=lambda: real_data(options.data, drawing.format.size[0]),
        note="\n".join([drawing.note, encoded.note, f"{_repeated(drawing, encoded)}; {NO_PRIOR}"]),
    )


def _repeated(drawing: Drawing, encoded: Encoding) -> str:
    """How images that the decoder drew come back, in words: far off where the two have other ranges or scales."""
    drawn = to_bytes(drawing.reference(golden_inputs(TRIAL_IMAGES, drawing.noise_dim, 0))[IMAGES])
    again = to_bytes(drawing.reference({"noise": encoded.reference({IMAGES: drawn})["mean"]})[IMAGES])
    decibels = psnr_db(drawn, again)
    return f"{TRIAL_IMAGES} images drawn from noise, encoded and decoded, come back at {decibels:.1f} dB"


def _latent_shape(
    encoder: str, encoding: onnx.ModelProto, decoder: str, decoding: onnx.ModelProto, options: ImportOptions
) -> list[int]:
    """Shape of the latents that the decoder takes; sizes that it leaves open are set to what the encoder gives."""
    inputs = list(decoding.graph.input)
    latents = [each for each in inputs if each.type.tensor_type.elem_type in FLOATS and len(sizes_of(each)) in (1, 3)]
    if len(inputs) != 1 or not latents:
        raise ImportRefused(
            f"inputs of the decoder: got {described(inputs)}; allowed is one, latents, floats (N, Z) or (N, C, H, W)"
        )
    (value,) = latents
    known = [size for size in sizes_of(value) if size]
    if len(known) == len(sizes_of(value)):
        return known
    fitting = []
    for shape in _encoded_shapes(encoder, encoding, options):
        is_alike = len(shape) == len(sizes_of(value))
        if is_alike and all(size in (None, given) for size, given in zip(sizes_of(value), shape, strict=True)):
            trial: Arrays = {value.name: np.zeros((1, *shape), dtype_of(value))}
            try:
                Reference(decoder, decoding, "latents")(trial)
                fitting.append(shape)
            except ImportRefused:
                continue
    if len(fitting) != 1:
        which = "none" if not fitting else "more than one"
        raise ImportRefused(
            f"inputs of the decoder: got {described(inputs)}, its sizes left open; of what the encoder gives, "
            f"{described(encoding.graph.output)}, {which} fits: export the decoder with its sizes fixed"
        )
    set_sizes(value, fitting[0])
    return fitting[0]


def _encoded_shapes(name: str, encoding: onnx.ModelProto, options: ImportOptions) -> list[list[int]]:
    """Shapes of latents that the encoder may give: of its outputs, or of half their channels."""
    shapes = []
    for output, array in Reference(name, encoding, "images")(_blank(encoding, options)).items():
        shape = list(array.shape[1:])
        is_halves = any(word in output.lower() for word in _HALVES)
        if not is_halves:
            shapes.append(shape)
        if shape and shape[0] % 2 == 0:
            shapes.append([shape[0] // 2, *shape[1:]])
    return [shape for place, shape in enumerate(shapes) if shape not in shapes[:place]]


def _blank(encoding: onnx.ModelProto, options: ImportOptions) -> Arrays:
    """One image of zeros, of the size that the encoder takes."""
    inputs = list(encoding.graph.input)
    if len(inputs) != 1 or len(sizes_of(inputs[0])) != 3:
        raise ImportRefused(f"inputs of the encoder: got {described(inputs)}; allowed is one, images of 4 axes")
    sizes = sizes_of(inputs[0])
    if options.shape is not None:
        height, width, channels = options.shape
        channels = channels or next((size for size in (sizes[0], sizes[2]) if size in CHANNELS), None)
        is_last = options.layout == "NHWC" or (sizes[2] in CHANNELS and sizes[0] not in CHANNELS)
        asked = [height, width, channels] if is_last else [channels, height, width]
        sizes = [size or wanted for size, wanted in zip(sizes, asked, strict=True)]
    known = [size for size in sizes if size]
    if len(known) < len(sizes):
        raise ImportRefused(
            f"inputs of the encoder: got {described(inputs)}, its sizes left open; --shape tells the height, width and channels of "
            "the images that are served, as 256x256x3"
        )
    return {inputs[0].name: np.zeros((1, *known), dtype_of(inputs[0]))}
