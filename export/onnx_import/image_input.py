"""The input of an encoder from elsewhere: a bundle's images in the order, the range and the type of the file.

model, format of its decoder -> image_input() -> ImageInput: feed() in numpy, append() the same to a graph
"""

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from export.errors import ImportRefused
from export.onnx_import.file import FLOATS, described
from export.onnx_import.pixel_format import PixelFormat
from export.onnx_import.signature import dtype_of, sizes_of
from export.pixels import Pixels
from export.sessions import Arrays

_TO_NCHW = (0, 3, 1, 2)


@dataclass(frozen=True)
class ImageInput:
    """How a file takes images.

    pixels  order of the axes, values of black and white
    shape   of what it takes a row
    size    height, width and channels of an image
    """

    value: onnx.ValueInfoProto
    pixels: Pixels
    shape: list[int]
    size: tuple[int, int, int]

    def feed(self, images: npt.NDArray[np.uint8]) -> Arrays:
        """images: (N, H, W, C). Returns the file's input."""
        values: npt.NDArray[np.generic] = images
        if dtype_of(self.value) != np.uint8:
            values = images.astype(np.float32) / np.float32(self.pixels.scale) + np.float32(self.pixels.black)
        if self.pixels.layout == "NCHW":
            values = values.transpose(_TO_NCHW)
        return {self.value.name: values.reshape(-1, *self.shape).astype(dtype_of(self.value))}

    def append(self, tape: ir.tape.Tape, images: ir.Value) -> ir.Value:
        """The same in nodes."""
        value, dtype = images, ir.DataType(self.value.type.tensor_type.elem_type)
        if dtype != ir.DataType.UINT8:
            value = tape.op("Cast", [value], attributes={"to": ir.DataType.FLOAT})
            for operator, number, name in (("Div", self.pixels.scale, "scale"), ("Add", self.pixels.black, "black")):
                constant = tape.initializer(ir.tensor(np.float32(number), name=f"images_{name}"))
                value = tape.op(operator, [value, constant])
        if self.pixels.layout == "NCHW":
            value = tape.op("Transpose", [value], attributes={"perm": _TO_NCHW})
        if len(self.shape) != 3:
            value = tape.op("Reshape", [value, tape.initializer(ir.tensor([0, *self.shape], name="images_flat"))])
        return (
            value
            if dtype in (ir.DataType.FLOAT, ir.DataType.UINT8)
            else tape.op("Cast", [value], attributes={"to": dtype})
        )


def image_input(model: onnx.ModelProto, decoded: PixelFormat) -> ImageInput:
    """The only input of `model`, of which sizes left open become those of its decoder's images.

    Raises: ImportRefused, if it does not take such images.
    """
    inputs = list(model.graph.input)
    height, width, channels = decoded.size
    pixels = decoded.pixels
    shapes = {"NCHW": [channels, height, width], "NHWC": [height, width, channels], "flat": [prod(decoded.size)]}
    fitting = [each for each, shape in shapes.items() if len(inputs) == 1 and _fits(inputs[0], shape)]
    if len(fitting) > 1:  # of images whose height is the number of their channels, or sizes that are open
        fitting = [each for each in fitting if each == pixels.layout]
    is_uint8 = len(inputs) == 1 and inputs[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    if len(fitting) != 1 or (is_uint8 and (pixels.black, pixels.white) != (0, 255)):
        raise ImportRefused(
            f"inputs of the encoder: got {described(inputs)}; allowed is one, the images that its decoder gives: {height}x{width}, "
            f"channels: {channels}, values {pixels.black:g} to {pixels.white:g}"
        )
    (order,) = fitting
    layout = pixels.layout if order == "flat" else "NCHW" if order == "NCHW" else "NHWC"
    set_sizes(inputs[0], shapes[order])
    return ImageInput(inputs[0], Pixels(layout, pixels.black, pixels.white), shapes[order], decoded.size)


def set_sizes(value: onnx.ValueInfoProto, sizes: list[int]) -> None:
    """Sizes after the batch."""
    for dim, size in zip(value.type.tensor_type.shape.dim[1:], sizes, strict=True):
        dim.Clear()
        dim.dim_value = size


def _fits(value: onnx.ValueInfoProto, shape: list[int]) -> bool:
    sizes = sizes_of(value)
    if value.type.tensor_type.elem_type not in (*FLOATS, onnx.TensorProto.UINT8) or len(sizes) != len(shape):
        return False
    return all(size in (None, wanted) for size, wanted in zip(sizes, shape, strict=True))
