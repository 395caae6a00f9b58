"""One encoded picture, as images of a set want it.

    file or bytes ─┬─> figment.imaging: upright, grey or RGB, 8 bits, no alpha -> centre square -> resized -> array
                   └─> drawings: an SVG, drawn ─────────────────────────────────────────────────────────^

Of several frames the first is taken. The centre square is resized, up or down, by Pillow's bicubic filter with antialiasing.
Read is whatever Pillow reads by itself, and SVG; a file's ending says nothing of its format.
"""

import warnings
from collections.abc import Iterable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from figment.imaging import UnreadablePicture, ValueRange, flatten
from training import drawings
from training.errors import DataError

_UNREADABLE = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
"""Formats that Pillow recognises and cannot decode, or only by running another program."""


class Decoded(NamedTuple):
    """image: (H, W) grey or (H, W, 3). width, height: of the upright picture that it was cut from."""

    image: npt.NDArray[np.uint8]
    width: int
    height: int


class Picture(NamedTuple):
    """name: what a person finds it by. label: its class, or None where it has none."""

    name: str
    encoded: Path | bytes
    label: int | None

    def decoded(self, size: int | None, value_range: ValueRange | None = None) -> Decoded:
        """By no `size` neither cropped nor resized; value_range: black and white of more than 8 bits a channel.

        Raises: UnreadablePicture, also for more pixels than Pillow takes for harmless; DataError, if it is a drawing and
            there is no `size`, or nothing to draw it with.
        """
        try:
            encoded = self.encoded if isinstance(self.encoded, bytes) else self.encoded.read_bytes()
            if not encoded:
                raise UnreadablePicture("not an image: 0 bytes")
            if drawings.is_xml(encoded):
                return self._drawn(drawings.read_drawing(encoded), size)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of metadata that are odd
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(BytesIO(encoded), formats=_formats()) as picture:
                    flat = flatten(picture, value_range)
        except (UnreadablePicture, DataError):
            raise
        except UnidentifiedImageError:  # its text is an address in memory
            raise UnreadablePicture("not an image, or of a format that cannot be read here") from None
        except FileNotFoundError:
            raise UnreadablePicture(f"there is no file {self.encoded!s}") from None
        except Exception as error:  # Pillow's readers raise whatever a malformed file makes of them
            raise UnreadablePicture(str(error) or type(error).__name__) from error
        image = flat if size is None else ImageOps.fit(flat, (size, size), Image.Resampling.BICUBIC)
        return Decoded(np.asarray(image), flat.width, flat.height)

    def _drawn(self, drawing: drawings.Drawing, size: int | None) -> Decoded:
        if size is None:
            raise DataError(f"size: {self.name} is an SVG, which has none by itself; choose one, e.g. --size 64")
        return Decoded(np.asarray(drawing.drawn(size)), *drawing.shape(size))


class Source(NamedTuple):
    """Pictures in a fixed order, the files that hold them, and the names of their labels, [] where they have none.

    notes: what was left out or merged, for a person. unlabelled: why there are no labels, where something stands for some.
    drops_empty: a class without a picture that can be read is none.
    """

    files: list[Path]
    label_names: list[str]
    pictures: Iterable[Picture]
    notes: list[str]
    unlabelled: str = ""
    drops_empty: bool = False


@cache
def endings() -> frozenset[str]:
    """Endings of files' names that stand for pictures, in lower case, with the dot."""
    formats = _formats()
    return frozenset(end for end, name in Image.registered_extensions().items() if name in formats) | {
        ".mpo",
        drawings.ENDING,
    }


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in Image.ID if name in Image.OPEN and name not in _UNREADABLE)


def listed(names: list[str], most: int = 3) -> str:
    """The first of `names` for a sentence."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
