"""Which values of a graph from elsewhere are black and white: by its last nodes, or by the values drawn.

    graph, drawn values -> value_range() -> name of a range, why

The end of a graph is better evidence than values: a tanh whose pictures are bright draws nothing below zero. Where neither
tells, the person does.
"""

import math
from typing import NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import onnx

from export.errors import ImportRefused
from export.onnx_import.file import constants, node_name
from export.onnx_import.options import Range

RANGES: dict[str, tuple[float, float]] = {"-1..1": (-1, 1), "0..1": (0, 1), "0..255": (0, 255)}

SLACK = 0.01
"""How far values may be outside a range that they are taken for, of its width."""

NEAR_BLACK, NEAR_WHITE = 0.05, 0.9
"""Values that a set within 0..1 must reach to be taken for 0..1: what stays in between might be the bright half of -1..1."""

BELOW_ZERO = -0.2
"""What a set must reach to be taken for -1..1: a decoder of 0..1 without a bound at its end draws a little below zero too."""

LEAST_OF_BYTES = 16
"""Largest value of a set that is taken for 0..255 at least."""

_BOUNDED: dict[str, tuple[float, float]] = {
    "Tanh": (-1, 1), "Softsign": (-1, 1), "Sin": (-1, 1), "Cos": (-1, 1), "Erf": (-1, 1),
    "Sigmoid": (0, 1), "HardSigmoid": (0, 1), "Softmax": (0, 1),
}  # fmt: skip
_KEEPING = frozenset(
    {
        "Identity", "Dropout", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Expand",
        "Tile", "Cast", "DepthToSpace", "SpaceToDepth", "AveragePool", "MaxPool", "Round", "Floor", "Ceil",
    }
)  # fmt: skip
"""Nodes whose values lie where those of their first input do."""


class _Interval(NamedTuple):
    """Between what a tensor's values lie, and the node that bounds them."""

    low: float
    high: float
    by: str


class _Affine(NamedTuple):
    """scale * the values of the tensor `of` + offset."""

    scale: float
    offset: float
    of: str


def value_range(model: onnx.ModelProto, name: str, drawn: npt.NDArray[np.generic]) -> tuple[str, str]:
    """The name of the range of the output `name`, of which `drawn` are some values, and why it is that one.

    Raises: ImportRefused, if it cannot be told.
    """
    interval = _Graph(model).interval(name)
    if interval is not None:
        for each, (black, white) in RANGES.items():
            margin = SLACK * (white - black)
            if abs(interval.low - black) <= margin and abs(interval.high - white) <= margin:
                return each, f"by {interval.by} at its end"
    low, high = float(drawn.min()), float(drawn.max())
    values = f"values from {low:.3g} to {high:.3g} on {len(drawn)} rows of noise"
    fits = {
        each: black - SLACK * (white - black) <= low and high <= white + SLACK * (white - black)
        for each, (black, white) in RANGES.items()
    }
    if fits["0..1"]:
        if low <= NEAR_BLACK and high >= NEAR_WHITE:
            return "0..1", f"by {values}"
    elif fits["-1..1"]:
        if low <= BELOW_ZERO:
            return "-1..1", f"by {values}"
    elif fits["0..255"] and high >= LEAST_OF_BYTES:
        return "0..255", f"by {values}"
    ended = f", which end with {interval.by}, {interval.low:.3g} to {interval.high:.3g}" if interval else ""
    allowed = [each for each in get_args(Range) if each != "auto"]
    raise ImportRefused(
        f"{name}: got {values}{ended}, of which nothing tells what they mean; --range tells what black and white are: "
        f"{', '.join(allowed)}"
    )


class _Graph:
    """Looks from an output backwards for what bounds its values."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._makers = {output: node for node in model.graph.node for output in node.output}
        self._constants = constants(model)

    def interval(self, name: str) -> _Interval | None:
        """Between what the values of a tensor lie, where nodes of known bounds tell it."""
        scale, offset = 1.0, 0.0  # its values are scale * those of the tensor looked at + offset
        while (node := self._makers.get(name)) is not None:
            kind = node.op_type
            bounds = self._bounds(node) if kind == "Clip" else _BOUNDED.get(kind)
            if bounds:
                low, high = sorted(scale * bound + offset for bound in bounds)
                return _Interval(low, high, node_name(node))
            if kind in _KEEPING or (kind in ("Resize", "Upsample") and not _is_cubic(node)):
                name = node.input[0] if node.input else ""
                continue
            affine = self._affine(node)
            if affine is None:
                return None
            scale, offset, name = scale * affine.scale, scale * affine.offset + offset, affine.of
        return None

    def _bounds(self, node: onnx.NodeProto) -> tuple[float, float] | None:
        attributes = {each.name: each.f for each in node.attribute}
        if {"min", "max"} <= attributes.keys():
            return attributes["min"], attributes["max"]
        ends = [self._number(each) for each in node.input[1:3]]
        return (ends[0], ends[1]) if len(ends) == 2 and ends[0] is not None and ends[1] is not None else None

    def _affine(self, node: onnx.NodeProto) -> _Affine | None:
        """What a node with one number does to its other input."""
        if node.op_type == "Neg":
            return _Affine(-1, 0, node.input[0])
        if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.input) != 2:
            return None
        left, right = (self._number(each) for each in node.input)
        number = right if left is None else left
        if number is None or (left is not None and node.op_type == "Div"):
            return None
        if node.op_type == "Sub" and left is not None:
            return _Affine(-1, number, node.input[1])
        scale = {"Mul": number, "Div": 1 / number if number else math.nan}.get(node.op_type, 1.0)
        offset = {"Add": number, "Sub": -number}.get(node.op_type, 0.0)
        return _Affine(scale, offset, node.input[0] if left is None else node.input[1])

    def _number(self, name: str) -> float | None:
        """A constant that is one number, or the same for all channels."""
        array = self._constants.get(name)
        if array is None or array.size == 0 or array.dtype.kind not in "fiu" or not (array == array.flat[0]).all():
            return None
        return float(array.flat[0])


def _is_cubic(node: onnx.NodeProto) -> bool:
    """Whether a resize gives values beyond those that it is given."""
    return any(each.name == "mode" and each.s == b"cubic" for each in node.attribute)
