"""One encoded picture, as images of a set want it.

    file or bytes -> turned upright -> grey or RGB, 8 bits, no alpha -> centre square -> resized -> array

A picture is turned by its EXIF orientation and put over black where it has alpha; of several frames the first is taken.
The centre square is resized, up or down, by Pillow's bicubic filter with antialiasing. Of 16 bits of grey the upper 8 are
kept; floats are taken for grey levels from 0 to 255.
"""

import warnings
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError


class Unreadable(Exception):
    """A picture cannot be decoded; the message says why."""


class Picture(NamedTuple):
    """name: what a person finds it by. label: its class, or None where it has none."""

    name: str
    encoded: Path | bytes
    label: int | None

    def decoded(self, size: int | None) -> npt.NDArray[np.uint8]:
        """Grey (H, W) or RGB (H, W, 3); by no `size` neither cropped nor resized.

        Raises: Unreadable, also for more pixels than Pillow takes for harmless.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(BytesIO(self.encoded) if isinstance(self.encoded, bytes) else self.encoded) as picture:
                    flat = _flatten(ImageOps.exif_transpose(picture))
        except UnidentifiedImageError:  # its text is an address in memory
            raise Unreadable("not an image") from None
        except Exception as error:  # Pillow's readers raise whatever a malformed file makes of them
            raise Unreadable(str(error)) from error
        return np.asarray(flat if size is None else ImageOps.fit(flat, (size, size), Image.Resampling.BICUBIC))


class Source(NamedTuple):
    """Pictures in a fixed order, the files that hold them, and the names of their labels, [] where they have none."""

    files: list[Path]
    label_names: list[str]
    pictures: Iterable[Picture]


def _flatten(picture: Image.Image) -> Image.Image:
    """Grey (L) or RGB, 8 bits a channel, alpha put over black."""
    if picture.mode == "F":
        return picture.convert("L")
    if picture.mode.startswith("I"):  # Pillow reads 16 bits into 32 where a format has no other way
        return Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        over = picture.convert("RGBA")
        black = Image.new("RGBA", over.size, (0, 0, 0, 255))
        flat = Image.alpha_composite(black, over).convert("RGB")
        return flat.convert("L") if picture.mode in {"1", "L", "LA"} else flat
    return picture.convert("L" if picture.mode in {"1", "L"} else "RGB")
