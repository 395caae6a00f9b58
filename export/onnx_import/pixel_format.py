"""The pixel format of a graph from elsewhere: the order of its axes, black and white, alpha, and flat values.

    graph, drawn values, options -> pixel_format() -> PixelFormat, words
    PixelFormat: grey_levels() of values in numpy, append() the same to a graph

What the file does not tell by itself, the person does.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from export.errors import ImportRefused
from export.graphs import BATCH
from export.onnx_import.options import CHANNELS, WITH_ALPHA, Colour, ImageShape, ImportOptions
from export.onnx_import.value_range import RANGES, SLACK, value_range
from export.pixels import Pixels, append_bytes

Order = Literal["NCHW", "NHWC"]

WHITE: Colour = (255, 255, 255)


class Alpha(NamedTuple):
    """The fourth channel. pixels: which values are transparent and opaque, its black and white; background: what is behind."""

    pixels: Pixels
    background: Colour


@dataclass(frozen=True)
class PixelFormat:
    """How a file gives its images.

    pixels  order of the axes, values of black and white
    shape   of an image in that order, with the channels that the file gives
    alpha   None where there is none
    """

    pixels: Pixels
    shape: tuple[int, int, int]
    alpha: Alpha | None = None

    @property
    def size(self) -> tuple[int, int, int]:
        """Height, width and channels of an image as it is served."""
        first, second, third = self.shape
        height, width, channels = (second, third, first) if self.pixels.layout == "NCHW" else self.shape
        return height, width, channels if self.alpha is None else channels - 1

    def grey_levels(self, drawn: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """drawn: the file's output. Returns unrounded grey levels (N, H, W, C) float32."""
        values = drawn.reshape(-1, *self.shape)
        levels = self.pixels.grey_levels(values)
        if self.alpha is None:
            return levels
        opaque = self.alpha.pixels.grey_levels(values)[..., 3:].clip(0, 255) / np.float32(255)
        background = np.array(self.alpha.background, np.float32)
        over = levels[..., :3].clip(0, 255) * opaque + background * (1 - opaque)
        return over.astype(np.float32, copy=False)

    def append(self, model: ir.Model) -> None:
        """Let `model`, whose only output is the file's, give `images` instead."""
        graph = model.graph
        (value,) = graph.outputs
        tape = ir.tape.Tape(graph)
        has_shape = value.shape is not None and value.shape[1:] == self.shape
        dtype = ir.DataType.UINT8 if value.dtype == ir.DataType.UINT8 else ir.DataType.FLOAT
        if dtype == ir.DataType.UINT8 and self.alpha is not None:
            value, dtype = tape.op("Cast", [value], attributes={"to": ir.DataType.FLOAT}), ir.DataType.FLOAT
        if not has_shape:
            value = tape.op("Reshape", [value, tape.initializer(ir.tensor([-1, *self.shape], name="image_shape"))])
        pixels = self.pixels
        if self.alpha is not None:
            value, pixels = self._over_background(tape, value, self.alpha), Pixels(self.pixels.layout, 0, 255)
        height, width, channels = self.size
        value.dtype = dtype
        value.shape = ir.Shape([BATCH, channels, height, width] if pixels.layout == "NCHW" else [BATCH, *self.size])
        graph.outputs[0] = value
        append_bytes(model, pixels)

    def _over_background(self, tape: ir.tape.Tape, value: ir.Value, alpha: Alpha) -> ir.Value:
        """Grey levels of red, green and blue, of pixels with alpha."""
        is_first = self.pixels.layout == "NCHW"

        def constant(values: object, name: str) -> ir.Value:
            return tape.initializer(ir.tensor(np.asarray(values, np.float32), name=f"alpha_{name}"))

        def levels(values: ir.Value, pixels: Pixels, name: str) -> ir.Value:
            values = tape.op("Mul", [values, constant(pixels.scale, f"{name}_scale")])
            values = tape.op("Add", [values, constant(pixels.offset, f"{name}_offset")])
            return tape.op("Clip", [values, constant(0, f"{name}_low"), constant(255, f"{name}_high")])

        parts = tape.initializer(ir.tensor([3, 1], name="alpha_parts"))
        split = tape.op_multi_out("Split", [value, parts], num_outputs=2, attributes={"axis": 1 if is_first else 3})
        colour, opaque = levels(split[0], self.pixels, "colour"), levels(split[1], alpha.pixels, "opaque")
        opaque = tape.op("Div", [opaque, constant(255, "full")])
        background = np.array(alpha.background).reshape([3, 1, 1] if is_first else [3])
        behind = tape.op("Sub", [constant(1, "one"), opaque])
        behind = tape.op("Mul", [behind, constant(background, "background")])
        return tape.op("Add", [tape.op("Mul", [colour, opaque]), behind])


def pixel_format(
    model: onnx.ModelProto, name: str, drawn: npt.NDArray[np.generic], options: ImportOptions
) -> tuple[PixelFormat, str]:
    """How the output `name` gives its images, of which `drawn` are some, and in words how that was found.

    Raises: ImportRefused, if it cannot be told and no option says it.
    """
    if drawn.dtype not in (np.float32, np.uint8):
        raise ImportRefused(f"{name}: got {drawn.dtype} {drawn.shape}; allowed are floats and uint8")
    order, shape, words = _shape(name, drawn.shape, options)
    has_alpha = shape[0 if order == "NCHW" else 2] == WITH_ALPHA
    if options.background is not None and not has_alpha:
        raise ImportRefused(f"background: got {_hex(options.background)}, but the images of {name} have no alpha")
    values = drawn.reshape(-1, *shape)
    black, white, told = _range(model, name, values, options)
    pixels = Pixels(order, black, white)
    if not has_alpha:
        return PixelFormat(pixels, shape), f"{words}, {told}"
    alpha = Alpha(_opacity(pixels, values), options.background or WHITE)
    words += (
        f", alpha {alpha.pixels.black:g}..{alpha.pixels.white:g} over {_hex(alpha.background)} "
        f"({'by' if options.background else 'by default;'} --background)"
    )
    return PixelFormat(pixels, shape, alpha), f"{words}, {told}"


def _range(
    model: onnx.ModelProto, name: str, drawn: npt.NDArray[np.generic], options: ImportOptions
) -> tuple[float, float, str]:
    """Values of black and white, and in words how they were found."""
    if drawn.dtype == np.uint8:
        return 0, 255, "range 0..255 (uint8)"
    unusable = int((~np.isfinite(drawn)).sum())
    if unusable:
        raise ImportRefused(
            f"{name}: {unusable} of {drawn.size} values drawn are infinite or no numbers (NaN): are the trained weights in "
            "the file? Exported in half precision, large values overflow: export it in float32"
        )
    chosen = options.value_range
    name_of_range, why = value_range(model, name, drawn) if chosen == "auto" else (chosen, "by --range")
    black, white = RANGES[name_of_range]
    margin = SLACK * (white - black)
    levels = drawn.astype(np.float32)
    outside = float(((levels < black - margin) | (levels > white + margin)).mean())
    cut = f"; {outside:.1%} of the values drawn lie outside and become black or white" if outside else ""
    return black, white, f"range {name_of_range} ({why}){cut}"


def _opacity(pixels: Pixels, drawn: npt.NDArray[np.generic]) -> Pixels:
    """Which values of the fourth channel are transparent and opaque: those of black and white, or 0 and 1 beside -1 and 1."""
    alpha = drawn[:, 3] if pixels.layout == "NCHW" else drawn[..., 3]
    is_from_zero = pixels.black < 0 and float(alpha.min()) >= -SLACK
    return Pixels(pixels.layout, 0, 1) if is_from_zero else pixels


def _shape(name: str, drawn: tuple[int, ...], options: ImportOptions) -> tuple[Order, tuple[int, int, int], str]:
    """Order of the axes, shape of an image in it, and words."""
    if len(drawn) == 4:
        order = _order(name, drawn, options)
        first, second, third = drawn[1:]
        how = (
            "by --layout"
            if options.layout != "auto"
            else f"{first if order == 'NCHW' else third} channels in axis {1 if order == 'NCHW' else 3}"
        )
        size = (second, third, first) if order == "NCHW" else (first, second, third)
        if options.shape is not None and options.shape not in (ImageShape(*size), ImageShape(*size[:2])):
            raise ImportRefused(
                f"shape: got {_text(options.shape)}, but {name} gives images {_text(ImageShape(*size))}"
            )
        return order, (first, second, third), f"{order} ({how})"
    if options.shape is not None:
        return _flat(name, drawn, options.shape, options)
    if len(drawn) == 3 and min(drawn[1:]) > WITH_ALPHA:
        return "NCHW", (1, *drawn[1:]), "grey (no axis for channels)"
    raise ImportRefused(
        f"{name}: got {drawn}; allowed are 4 axes, (N, H, W) where images are grey, and flat values, of which --shape tells the "
        "height, width and channels, as 28x28 or 64x64x3"
    )


def _flat(
    name: str, drawn: tuple[int, ...], shape: ImageShape, options: ImportOptions
) -> tuple[Order, tuple[int, int, int], str]:
    """The same of an image whose values come in a row."""
    values = int(np.prod(drawn[1:]))
    channels = shape.channels or values // (shape.height * shape.width)
    if channels not in (*CHANNELS, WITH_ALPHA) or shape.height * shape.width * channels != values:
        raise ImportRefused(f"shape: got {_text(shape)}, but {name} gives {values} values an image: {drawn}")
    if channels > 1 and options.layout == "auto":
        raise ImportRefused(
            f"{name}: got {drawn}, flat images of {channels} channels; --layout tells whether channel follows channel (NCHW) or "
            "pixel follows pixel (NHWC)"
        )
    order: Order = "NHWC" if options.layout == "NHWC" else "NCHW"
    words = f"{_text(ImageShape(shape.height, shape.width, channels))} (by --shape)"
    if order == "NCHW":
        return order, (channels, shape.height, shape.width), words
    return order, (shape.height, shape.width, channels), words


def _order(name: str, shape: tuple[int, ...], options: ImportOptions) -> Order:
    """Of 4 axes, by where channels are; alpha is looked for where there is no other."""
    for channels in (CHANNELS, (WITH_ALPHA,)):
        orders: list[Order] = []
        if shape[1] in channels and options.layout in ("NCHW", "auto"):
            orders.append("NCHW")
        if shape[3] in channels and options.layout in ("NHWC", "auto"):
            orders.append("NHWC")
        if len(orders) == 1:
            return orders[0]
        if orders:
            break
    raise ImportRefused(
        f"{name}: got {shape} and --layout {options.layout}; images have {' or '.join(map(str, CHANNELS))} channels, or "
        f"{WITH_ALPHA} with alpha, in axis 1 (NCHW) or 3 (NHWC)"
    )


def _text(shape: ImageShape) -> str:
    return "x".join(str(size) for size in shape if size is not None)


def _hex(colour: Colour) -> str:
    return f"#{bytes(colour).hex()}"
