"""What a picture file says of its values: how many bits, which are black and white, how Pillow has scaled them.

    picture that is not loaded yet -> said_by() -> Said

Read from TIFF's tags, PNG's sBIT and PGM's maxval; of a picture that was loaded, or of another format, little is known.
"""

import math
from typing import IO, Any, NamedTuple

from PIL import Image, ImageFile, TiffImagePlugin

from figment.imaging.levels import ValueRange

SIXTEEN_BITS = ValueRange(0, 2**16 - 1)

_BITS, _PHOTOMETRIC, _FORMAT = 258, 262, 339
_LOWEST, _HIGHEST = (340, 280), (341, 281)
"""TIFF's tags: of any type of number, and the older ones of unsigned integers."""

_PNG_CHUNKS = 64
"""Chunks looked through for sBIT, which comes before the palette and the pixels."""


class Said(NamedTuple):
    """What a file says of its values. significant_bits: PNG's sBIT. scale: by what Pillow multiplied them."""

    value_range: ValueRange | None = None
    bits: int = 16
    significant_bits: int = 16
    is_unsigned: bool = False
    is_white_zero: bool = False
    scale: float = 1.0


def said_by(picture: Image.Image) -> Said:
    """What its file says of the values of `picture`."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return _said_by_tiff(picture.tag_v2)
    if picture.format == "PNG" and ";16" in raw_mode_of(picture):
        return Said(significant_bits=_significant_bits(picture))
    if picture.format == "PPM" and (maxval := _maxval(picture)) > 255:
        return Said(SIXTEEN_BITS, scale=(2**16 - 1 if picture.mode == "I" else 255) / maxval)
    return Said()


def _said_by_tiff(tags: Any) -> Said:
    """tags: TIFF's, by number; numbers or tuples of them, as the file has it."""
    bits = int(max(_numbers(tags, _BITS), default=1))
    is_unsigned = max(_numbers(tags, _FORMAT), default=1) == 1
    low = min(_numbers(tags, *_LOWEST), default=0.0)
    high = max(_numbers(tags, *_HIGHEST), default=-math.inf)
    is_range = math.isfinite(low) and math.isfinite(high) and low < high  # else it is that of a picture of one grey
    is_white_zero = _numbers(tags, _PHOTOMETRIC) == [0]
    return Said(ValueRange(low, high) if is_range else None, bits, 16, is_unsigned, is_white_zero)


def _numbers(tags: Any, *alternatives: int) -> list[float]:
    """One for each channel, or for all, of the first tag that is there."""
    value = next((tags[tag] for tag in alternatives if tag in tags), ())
    return [float(each) for each in (value if isinstance(value, tuple) else (value,))]


def raw_mode_of(picture: Image.Image) -> str:
    """How the pixels lie in the file, in Pillow's words; "" of a picture that is no file or was loaded."""
    args = picture.tile[0].args if isinstance(picture, ImageFile.ImageFile) and picture.tile else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _maxval(picture: Image.Image) -> int:
    """Of a PGM or PPM file, where Pillow scales by it; else what its values end with."""
    tile = picture.tile[0] if isinstance(picture, ImageFile.ImageFile) and picture.tile else None
    if tile and tile.codec_name in ("ppm", "ppm_plain") and isinstance(tile.args, tuple):
        return int(tile.args[-1])
    return 2**16 - 1 if picture.mode == "I" else 255


def _significant_bits(picture: Image.Image) -> int:
    """The largest of sBIT's numbers for the colours; 16 where there is none."""
    file = file_of(picture)
    place = file.tell()
    try:
        file.seek(8)
        for _ in range(_PNG_CHUNKS):
            head = file.read(8)
            length, name = int.from_bytes(head[:4], "big"), head[4:]
            if name == b"sBIT" and 1 <= length <= 4:
                said = file.read(length)
                bits = max(said if length in (1, 3) else said[:-1])
                return bits if 1 <= bits <= 16 else 16
            if name in (b"PLTE", b"IDAT", b""):
                break
            file.seek(length + 4, 1)
        return 16
    finally:
        file.seek(place)


def file_of(picture: Image.Image) -> IO[bytes]:
    """The file that a picture with a raw mode is yet to be read from."""
    assert isinstance(picture, ImageFile.ImageFile), "only a file that is not loaded has a raw mode"
    assert picture.fp is not None, "its file is open"
    return picture.fp
