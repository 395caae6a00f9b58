"""The lossy variants of a graph: what makes each, and the device on which it may pay.

    exact graph, calibration inputs -> LOSSY[variant].convert -> graph, or None where it has no layers that are worth it

Each is a module of this package by the name of the variant, with a function `convert` and the name of its DEVICE.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Literal, NamedTuple

import onnx

from export.sessions import Arrays
from figment.bundles import LOSSY_VARIANTS, LossyVariant

Device = Literal["cpu", "cuda"]


class Lossy(NamedTuple):
    """convert: graph, some hundred rows of its inputs by name -> its lossy form. Raises: VariantRefused."""

    convert: Callable[[onnx.ModelProto, Arrays], onnx.ModelProto | None]
    device: Device


def _lossy(variant: LossyVariant) -> Lossy:
    module = import_module(f"export.{variant}")
    return Lossy(module.convert, module.DEVICE)


LOSSY = {variant: _lossy(variant) for variant in LOSSY_VARIANTS}


def variants_for(device: Device) -> tuple[LossyVariant, ...]:
    """Those that may pay on `device`."""
    return tuple(variant for variant, lossy in LOSSY.items() if lossy.device == device)
