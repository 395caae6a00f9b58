"""The lossy variants of a graph: how each is made, and the device on which it may pay.

    exact graph, calibration inputs -> LOSSY[variant].convert -> graph, or None where it has no layers that are worth it

A new variant is a row here, and a module for its conversion.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import onnx

from export.fp16 import to_fp16
from export.int8 import to_int8
from export.sessions import Arrays

Variant = Literal["int8", "fp16"]
Device = Literal["cpu", "cuda"]


class Lossy(NamedTuple):
    """convert: graph, some hundred rows of its inputs by name -> its lossy form. Raises: VariantRefused."""

    convert: Callable[[onnx.ModelProto, Arrays], onnx.ModelProto | None]
    device: Device


LOSSY: dict[Variant, Lossy] = {
    "int8": Lossy(to_int8, "cpu"),
    "fp16": Lossy(lambda graph, _: to_fp16(graph), "cuda"),
}


def variants_for(device: Device) -> tuple[Variant, ...]:
    """Those that may pay on `device`."""
    return tuple(variant for variant, lossy in LOSSY.items() if lossy.device == device)
