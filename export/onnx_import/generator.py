"""A generator that was trained elsewhere, as a source of a bundle.

ONNX file -> read -> Drawing -> Source with a generator
"""

from pathlib import Path

from export.errors import ImportRefused
from export.onnx_import.drawing import Drawing, drawing_of, facts_of, real_data, told_in_a_line
from export.onnx_import.file import read
from export.onnx_import.options import DEFAULTS, ImportOptions
from export.source import Source


def from_onnx(file: Path, options: ImportOptions = DEFAULTS) -> Source:
    """The generator in `file`: noise [, label] -> images, in the forms that `signature` and `pixel_format` know.

    Raises: ImportRefused, naming the tensor, what came and what is allowed; ExportError.
    """
    with told_in_a_line(file.name):
        drawing = drawing_of(file.name, read(file), options)
        _check_is_smaller(file.name, drawing)
    return Source(
        facts=facts_of(drawing, options, file.name),
        graphs={"generator": drawing.graph},
        networks=lambda _, inputs: drawing.reference(inputs),
        data=lambda: real_data(options.data, drawing.format.size[0]),
        note=drawing.note,
    )


def _check_is_smaller(name: str, drawing: Drawing) -> None:
    """Refuse networks from images to images, whose input is no noise."""
    height, width, _ = drawing.format.size
    shape = drawing.noise_shape
    if len(shape) == 3 and min(height, width) > 1 and [height, width] in (shape[1:], shape[:2]):
        raise ImportRefused(
            f"noise: got a map {tuple(shape)}, as large as the images, {height}x{width}: {name} makes images of images, it is no "
            "generator"
        )
