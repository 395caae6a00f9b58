"""What a foreign graph's pixels mean, and by what that is known: layout by the channels, range by its last nodes or its values.

    graph, drawn values, options -> found() -> Pixels, words

The end of a graph is better evidence than values: a tanh whose pictures are bright draws nothing below zero. Where neither
tells, the person does.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import onnx

from export.errors import ImportRefused
from export.onnx_file import constants
from export.pixels import Pixels

Layout = Literal["auto", "NCHW", "NHWC"]
Range = Literal["auto", "-1..1", "0..1", "0..255"]

RANGES: dict[str, tuple[float, float]] = {"-1..1": (-1, 1), "0..1": (0, 1), "0..255": (0, 255)}
CHANNELS = (1, 3)

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


def found(
    model: onnx.ModelProto, name: str, drawn: npt.NDArray[np.generic], layout: Layout, value_range: Range
) -> tuple[Pixels, str]:
    """How the output `name` gives its images, of which `drawn` are some, and in words how that was found.

    Raises: ImportRefused, if it cannot be told and no option says it.
    """
    if drawn.ndim != 4 or drawn.dtype not in (np.float32, np.uint8):
        raise ImportRefused(f"{name}: got {drawn.dtype} {drawn.shape}; allowed are float32 and uint8 of 4 axes")
    order = _layout(name, drawn.shape, layout)
    axis = {"NCHW": 1, "NHWC": 3}[order]
    of_layout = (
        f"{order} (by --layout)" if layout != "auto" else f"{order} ({drawn.shape[axis]} channels in axis {axis})"
    )
    if drawn.dtype == np.uint8:
        return Pixels(order, 0, 255), f"{of_layout}, range 0..255 (uint8)"
    unusable = int((~np.isfinite(drawn)).sum())
    if unusable:
        raise ImportRefused(
            f"{name}: {unusable} of {drawn.size} values drawn are infinite or no numbers (NaN): are the trained weights in "
            "the file? Exported in half precision, large values overflow: export it in float32"
        )
    chosen, why = _range(model, name, drawn) if value_range == "auto" else (value_range, "by --range")
    black, white = RANGES[chosen]
    margin = SLACK * (white - black)
    levels = drawn.astype(np.float32)
    outside = float(((levels < black - margin) | (levels > white + margin)).mean())
    cut = f"; {outside:.1%} of the values drawn lie outside and become black or white" if outside else ""
    return Pixels(order, black, white), f"{of_layout}, range {chosen} ({why}){cut}"


def _layout(name: str, shape: tuple[int, ...], layout: Layout) -> Literal["NCHW", "NHWC"]:
    orders: list[Literal["NCHW", "NHWC"]] = []
    if shape[1] in CHANNELS and layout in ("NCHW", "auto"):
        orders.append("NCHW")
    if shape[3] in CHANNELS and layout in ("NHWC", "auto"):
        orders.append("NHWC")
    if len(orders) != 1:
        raise ImportRefused(
            f"{name}: got {shape} and --layout {layout}; images have {' or '.join(map(str, CHANNELS))} channels, "
            f"in axis 1 (NCHW) or 3 (NHWC)"
        )
    return orders[0]


def _range(model: onnx.ModelProto, name: str, drawn: npt.NDArray[np.generic]) -> tuple[str, str]:
    """The name of a range and why it is that one."""
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
        changes: list[Callable[[_Interval], _Interval | None]] = []
        while (node := self._makers.get(name)) is not None:
            kind, name = node.op_type, node.input[0] if node.input else ""
            by = f"{kind} {node.name or node.output[0]!r}"
            if kind in _BOUNDED:
                return _changed(_Interval(*_BOUNDED[kind], by), changes)
            if kind == "Clip" and (bounds := self._bounds(node)):
                return _changed(_Interval(*bounds, by), changes)
            if kind in ("Resize", "Upsample") and not _is_cubic(node):
                continue
            if kind in _KEEPING:
                continue
            step = self._arithmetic(node)
            if step is None:
                return None
            change, name = step
            changes.append(change)
        return None

    def _bounds(self, node: onnx.NodeProto) -> tuple[float, float] | None:
        attributes = {each.name: each.f for each in node.attribute}
        if {"min", "max"} <= attributes.keys():
            return attributes["min"], attributes["max"]
        known = [self._number(each) for each in node.input[1:3]]
        return (known[0], known[1]) if len(known) == 2 and known[0] is not None and known[1] is not None else None

    def _arithmetic(self, node: onnx.NodeProto) -> tuple[Callable[[_Interval], _Interval | None], str] | None:
        """What a node with one number does to an interval, and its other input."""
        if node.op_type == "Neg":
            return lambda each: _Interval(-each.high, -each.low, each.by), node.input[0]
        if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.input) != 2:
            return None
        left, right = (self._number(each) for each in node.input)
        number = right if left is None else left
        if number is None or (left is not None and node.op_type == "Div"):
            return None
        scale = {"Mul": number, "Div": 1 / number if number else math.nan}.get(node.op_type, 1.0)
        offset = {"Add": number, "Sub": -number}.get(node.op_type, 0.0)
        if node.op_type == "Sub" and left is not None:
            scale, offset = -1.0, number

        def change(each: _Interval) -> _Interval:
            ends = sorted((scale * each.low + offset, scale * each.high + offset))
            return _Interval(ends[0], ends[1], each.by)

        return change, node.input[0] if left is None else node.input[1]

    def _number(self, name: str) -> float | None:
        """A constant that is one number, or the same for all channels."""
        array = self._constants.get(name)
        if array is None or array.size == 0 or array.dtype.kind not in "fiu" or not (array == array.flat[0]).all():
            return None
        return float(array.flat[0])


def _changed(interval: _Interval, changes: list[Callable[[_Interval], _Interval | None]]) -> _Interval | None:
    found: _Interval | None = interval
    for change in reversed(changes):
        found = change(found) if found is not None else None
    return found


def _is_cubic(node: onnx.NodeProto) -> bool:
    """Whether a resize gives values beyond those that it is given."""
    return any(each.name == "mode" and each.s == b"cubic" for each in node.attribute)
