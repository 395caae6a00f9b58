"""The end of a graph that draws: from floats in some range and layout to images.

    pixels (N, C, H, W) or (N, H, W, C) float32 -> scale, offset -> QuantizeLinear -> images (N, H, W, C) uint8

QuantizeLinear by a scale of one rounds half to even and clamps to 0..255. Scaling, rounding and layout inside the graph
let a quarter of the bytes of floats leave the device.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

IMAGES = "images"
"""Name of the tensor of images, (N, H, W, C) uint8, in every graph that has one."""

TO_NHWC = (0, 2, 3, 1)

ONE = "one_grey_level"
"""Name of the scale by which images are rounded."""


@dataclass(frozen=True)
class Pixels:
    """How a network gives its images: the order of its axes, and its values of black and white."""

    layout: Literal["NCHW", "NHWC"] = "NCHW"
    black: float = -1.0
    white: float = 1.0

    @property
    def scale(self) -> float:
        """Grey levels between two values that are one apart."""
        return 255 / (self.white - self.black)

    @property
    def offset(self) -> float:
        """The grey level that the value zero stands for."""
        return -self.black * self.scale

    def grey_levels(self, pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """pixels: 4 axes in this layout and range. Returns unrounded grey levels (N, H, W, C) float32."""
        levels = pixels.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)
        return levels.transpose(TO_NHWC) if self.layout == "NCHW" else levels


def to_bytes(grey_levels: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Round half to even and clamp, as the graphs do."""
    return np.rint(grey_levels).clip(0, 255).astype(np.uint8)


def append_bytes(model: ir.Model, pixels: Pixels) -> None:
    """Let `model`, whose only output are pixels as `pixels` says, give `images` instead."""
    graph = model.graph
    (value,) = graph.outputs
    assert value.shape is not None, "the shapes of a graph's outputs are known"
    order = TO_NHWC if pixels.layout == "NCHW" else range(4)
    shape = ir.Shape([value.shape[axis] for axis in order])
    tape = ir.tape.Tape(graph)

    def constant(array: np.generic, name: str) -> ir.Value:
        return tape.initializer(ir.tensor(array, name=name))

    value.name = f"{value.name}_pixels"
    if value.dtype != ir.DataType.UINT8:
        if (pixels.scale, pixels.offset) != (1, 0):
            value = tape.op("Mul", [value, constant(np.float32(pixels.scale), "grey_levels")])
            value = tape.op("Add", [value, constant(np.float32(pixels.offset), "grey_of_zero")])
        one, zero = constant(np.float32(1), ONE), constant(np.uint8(0), "black")
        value = tape.op("QuantizeLinear", [value, one, zero])
    if pixels.layout == "NCHW":
        value = tape.op("Transpose", [value], attributes={"perm": TO_NHWC})
    elif value is graph.outputs[0]:
        value = tape.op("Identity", [value])
    value.name = IMAGES
    value.dtype, value.shape = ir.DataType.UINT8, shape
    graph.outputs[0] = value


def unrounded(graph: onnx.ModelProto) -> onnx.ModelProto | None:
    """`graph` without the rounding that `append_bytes` gave it, so that `images` are grey levels in float32.

    None, if it rounds by itself.
    """
    copy = onnx.ModelProto.FromString(graph.SerializeToString())
    rounding = [node for node in copy.graph.node if node.op_type == "QuantizeLinear" and node.input[1] == ONE]
    if not rounding:
        return None
    for node in rounding:
        node.CopyFrom(onnx.helper.make_node("Identity", node.input[:1], node.output, node.name))
    for output in copy.graph.output:
        if output.name == IMAGES:
            output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    del copy.graph.value_info[:]
    return copy
