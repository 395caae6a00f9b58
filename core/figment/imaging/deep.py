"""Pictures of more than 8 bits a channel: their values, and which of them are black and white.

    picture -> values, and what the file says of them -> range -> levels, a picture of 8 bits

The range is the one asked for, or else the file's own, or else the depth's. Pillow reads grey of 16 and 32 bits and floats
whole. Of colours of 16 bits it keeps the upper 8; where that is too little, the lower ones are decoded as well, by telling
its decoder that the bytes of a value lie the other way round.
"""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from figment.imaging.declared import SIXTEEN_BITS, Said, file_of, raw_mode_of, said_by
from figment.imaging.levels import UnreadablePicture, ValueRange, Values, to_levels

FLOATS = ValueRange(0, 1)

_NATIVE = "L" if sys.byteorder == "little" else "B"
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if _NATIVE == "L" else "L"}
_BOTH_BYTES = frozenset({"RGB", "RGBA", "RGBX", "LA"})
"""Colours of 16 bits whose lower bytes Pillow can be made to decode."""


def deep_levels(picture: Image.Image, value_range: ValueRange | None) -> Image.Image | None:
    """The picture in 8 bits, mode L, LA, RGB or RGBA; None where it has 8 bits, or Pillow's upper 8 are what is wanted.

    Raises: UnreadablePicture, if nothing says what is black and white, or values lie outside; what Pillow's decoders raise.
    """
    said = said_by(picture)
    if picture.mode == "F":
        picture.load()
        return _one_channel(picture, _floats(picture, value_range or said.value_range), said)
    if picture.mode == "I":
        picture.load()
        return _one_channel(picture, _integers(picture, value_range, said), said)
    if picture.mode.startswith("I;16"):
        picture.load()
        values = np.asarray(picture).astype(np.uint16)
        by_depth = ValueRange(0, 2**said.bits - 1)
        chosen = value_range or said.value_range or _significant(values, said.significant_bits) or by_depth
        return _one_channel(picture, to_levels(values, chosen), said, values)
    raw_mode = raw_mode_of(picture)
    if isinstance(picture, TiffImagePlugin.TiffImageFile) and raw_mode and said.bits > 8 and ";16" not in raw_mode:
        raise UnreadablePicture(
            f"planes of {said.bits} bits, which Pillow reads as 8; save it with its colours interleaved"
        )
    if ";16" not in raw_mode and said.scale == 1.0:
        return None
    if value_range is None and said.value_range in (None, SIXTEEN_BITS) and said.significant_bits == 16:
        if not raw_mode.startswith("LA"):
            return None
        picture.load()
        return picture.convert("LA")  # Pillow reads it into RGBA
    return _colours(picture, raw_mode.partition(";")[0], value_range or said.value_range, said)


def _significant(values: npt.NDArray[np.uint16], bits: int) -> ValueRange | None:
    """The range of values of which `bits` are significant; None where they fill 16.

    PNG wants them widened to 16 bits, by zeros, repetition or a factor; many writers leave them as they are. Widened ones as
    dark as that lie within one of a multiple of a power of two, which others do not.
    """
    step = 2 ** (16 - bits)
    if step == 1 or values.max(initial=0) >= 2**bits or bool(((values.astype(np.int32) + 1) % step <= 2).all()):
        return None
    return ValueRange(0, 2**bits - 1)


def _floats(picture: Image.Image, value_range: ValueRange | None) -> npt.NDArray[np.uint8]:
    values = np.asarray(picture)
    if missing := int(np.isnan(values).sum()):
        raise UnreadablePicture(f"{missing} of {values.size} values are no numbers (NaN)")
    if value_range is None and not (values.min() >= FLOATS.low and values.max() <= FLOATS.high):
        raise UnreadablePicture(
            f"floating-point values from {values.min():.6g} to {values.max():.6g}, without a range they are to lie from "
            "0 to 1; say what is black and white (--range LOW..HIGH)"
        )
    return to_levels(values, value_range or FLOATS)


def _integers(picture: Image.Image, value_range: ValueRange | None, said: Said) -> npt.NDArray[np.uint8]:
    """Of signed or 32-bit integers, or of those that Pillow scaled to 16 bits."""
    values: Values = np.asarray(picture)
    if said.is_unsigned and said.bits == 32:
        values = values.view(np.uint32)
    if value_range is not None:
        value_range = ValueRange(value_range.low * said.scale, value_range.high * said.scale)
    chosen = value_range or said.value_range
    if chosen is None:
        raise UnreadablePicture(
            f"signed or 32-bit integers from {values.min()} to {values.max()}, and no tag tells their range; "
            "say what is black and white (--range LOW..HIGH)"
        )
    return to_levels(values, chosen)


def _one_channel(
    picture: Image.Image, levels: npt.NDArray[np.uint8], said: Said, values: Values | None = None
) -> Image.Image:
    if said.is_white_zero:  # Pillow turns 8 bits over, not more
        levels = 255 - levels
    if values is not None and isinstance(key := picture.info.get("transparency"), int):
        levels = np.where(values == key, np.uint8(0), levels)
    return Image.fromarray(levels)


def _colours(picture: Image.Image, order: str, value_range: ValueRange | None, said: Said) -> Image.Image:
    """RGB, RGBA or LA of 16 bits by a range, or by PNG's sBIT."""
    if order not in _BOTH_BYTES or said.scale != 1.0:
        raise UnreadablePicture(
            f"colours of more than 8 bits a channel in a {picture.format} file, of which Pillow reads the upper 8 alone: "
            "no range can be applied; save it as a PNG or an RGB TIFF"
        )
    values = _both_bytes(picture, order)
    alpha = (values[..., 3:] >> 8).astype(np.uint8) if picture.mode == "RGBA" else None
    colours = values[..., : 1 if order == "LA" else 3]
    levels = to_levels(colours, value_range or _significant(colours, said.significant_bits) or SIXTEEN_BITS)
    key = picture.info.get("transparency")
    if isinstance(key, tuple) and len(key) == 3:
        levels[(colours == np.array(key)).all(2)] = 0
    if alpha is None:
        return Image.fromarray(levels)
    return Image.fromarray(np.concatenate([levels, alpha], 2))


def _both_bytes(picture: Image.Image, order: str) -> npt.NDArray[np.uint16]:
    """All 16 bits: (H, W, 3 or 4), of LA (H, W, 4) with the grey first and alpha last."""
    file = file_of(picture)
    place = file.tell()
    file.seek(0)
    with Image.open(file, formats=[str(picture.format)]) as lower:
        lower.tile = [tile._replace(args=_swapped(tile.args) if order != "LA" else "RGBA") for tile in lower.tile]
        lower.load()
        low = np.asarray(lower).astype(np.uint16)
    file.seek(place)
    picture.load()
    if order == "LA":  # two values of two bytes, read as four of one
        return np.stack([low[..., 0] << 8 | low[..., 1]] * 3 + [low[..., 2] << 8 | low[..., 3]], 2)
    both: npt.NDArray[np.uint16] = np.asarray(picture).astype(np.uint16) << np.uint16(8) | low
    return both


def _swapped(args: Any) -> Any:
    if isinstance(args, tuple):
        return (_swapped(args[0]), *args[1:])
    return args[:-1] + _OTHER_ORDER[args[-1]]
