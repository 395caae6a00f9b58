"""What a person says of a file from elsewhere, where it does not tell by itself.

words of a command line -> shape_of(), colour_of() -> ImportOptions
"""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from PIL import ImageColor

Layout = Literal["auto", "NCHW", "NHWC"]
Range = Literal["auto", "-1..1", "0..1", "0..255"]
Colour = tuple[int, int, int]

CHANNELS = (1, 3)
"""Channels of images that are served."""

WITH_ALPHA = 4

_SHAPE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})(?:x([134]))?")


class ImageShape(NamedTuple):
    """Height, width and channels of an image; channels None: as many as there are values for."""

    height: int
    width: int
    channels: int | None = None


@dataclass(frozen=True)
class ImportOptions:
    """Options of an import; the defaults leave everything to the file.

    noise           name of the input that is the noise, where several could be; "" where one can
    output          name of the output to take, where several could be
    labels          names of the classes, where there is an input for a label
    truncation      value of the input of one number; None: what the file has for it, else 1
    shape           of an image, where its values come flat or its size is left open
    background      what images with alpha are put over; None: white
    scaling_factor  of an autoencoder: its latents are its file's, less shift_factor, times this
    data            real images, to compare lossy variants by
    """

    layout: Layout = "auto"
    value_range: Range = "auto"
    labels: tuple[str, ...] = ()
    noise: str = ""
    output: str = ""
    truncation: float | None = None
    shape: ImageShape | None = None
    background: Colour | None = None
    scaling_factor: float = 1.0
    shift_factor: float = 0.0
    data: str | None = None


DEFAULTS = ImportOptions()


def shape_of(text: str) -> ImageShape:
    """HxW or HxWxC, as 28x28 and 64x64x3. Raises: ValueError."""
    match = _SHAPE.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError("allowed are HxW and HxWxC with 1, 3 or 4 channels, such as 28x28 and 64x64x3")
    return ImageShape(int(match[1]), int(match[2]), int(match[3]) if match[3] else None)


def colour_of(text: str) -> Colour:
    """Red, green and blue of a colour that Pillow knows. Raises: ValueError."""
    allowed = "allowed are names, as white, and red, green and blue, as #ff8000 or rgb(255, 128, 0)"
    try:
        colour = ImageColor.getrgb(text)
    except ValueError:
        raise ValueError(allowed) from None
    if len(colour) != 3:
        raise ValueError(f"{allowed}, without alpha")
    return colour
