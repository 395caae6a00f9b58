"""From numbers of any range to the 256 grey levels of 8 bits.

    text LOW..HIGH -> ValueRange          values, ValueRange -> to_levels() -> uint8

The range is cut into 256 equal steps: of 16 bits the upper 8 are kept, of 12 bits too, whether an encoder widened them from
8 by zeros or by repetition, and floats that are k/255 or k/256 become k.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.integer] | npt.NDArray[np.floating]


class UnreadablePicture(ValueError):
    """A picture cannot be decoded, or nothing says which of its values are black and white; the message says why."""


class ValueRange(NamedTuple):
    """What is black (low) and white (high) in pictures of more than 8 bits a channel."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.15g}..{self.high:.15g}"


def parse_range(text: str) -> ValueRange:
    """The range that `text` names: LOW..HIGH, such as 0..4095, -1..1 or -1000..400.

    Raises: ValueError.
    """
    low, dots, high = text.partition("..")
    try:
        return checked_range((float(low), float(high if dots else "")))
    except ValueError:
        raise ValueError(
            f"range: got {text!r}, allowed is LOW..HIGH with LOW below HIGH, such as 0..4095 or -1000..400"
        ) from None


def checked_range(pair: tuple[float, float]) -> ValueRange:
    """Raises: ValueError, unless both ends are finite and the first is the lower."""
    low, high = pair
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"range: got {low} to {high}, allowed are finite numbers, the first the lower")
    return ValueRange(float(low), float(high))


def to_levels(values: Values, value_range: ValueRange) -> npt.NDArray[np.uint8]:
    """values: of any shape, none of them NaN; what lies outside the range becomes black or white."""
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:  # a table is faster, and small beside a large picture
        table: npt.NDArray[np.uint8] = _cut(np.arange(2**16), value_range)[values]
        return table
    return _cut(values, value_range)


def _cut(values: Values, value_range: ValueRange) -> npt.NDArray[np.uint8]:
    low, high = value_range
    with np.errstate(over="ignore"):  # what overflows is beyond white
        steps = (values.astype(np.float64) - low) * 256 / (high - low)
    return np.floor(steps).clip(0, 255).astype(np.uint8)
