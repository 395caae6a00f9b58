"""Images: a NumPy array of drawn pictures that knows how to show and save itself.

    (N, H, W, C) uint8 -> grid() -> one Pillow picture -> save()

A leaf: knows NumPy and Pillow, not the network. Training and export draw their sample sheets with it.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

GAP = 2
"""Pixels between the pictures of a sheet: drawings that fill their frame would run into each other without."""

GAP_GREY = 96
SHEET_PIXELS = 512
"""A sheet's pictures are enlarged by a whole factor, to about this width."""

ANIMATION_FRAME_MS = 80


class Images(np.ndarray[Any, np.dtype[np.uint8]]):
    """(N, H, W, C) uint8, C = 1 (grey) or 3 (RGB), with what they were drawn from.

    Slicing keeps the class; `seed`, `first_index` and `labels` describe the whole reply.
    """

    seed: int | None
    first_index: int
    labels: list[int]

    def __new__(
        cls, array: npt.ArrayLike, *, seed: int | None = None, first_index: int = 0, labels: list[int] | None = None
    ) -> Self:
        """View an array as images, without a copy.

        Raises: ValueError, if it is not uint8.
        """
        pixels = np.asarray(array)
        if pixels.dtype != np.uint8:  # A cast would wrap 256 to 0 and cut 0.9 to 0 without a word.
            raise ValueError(f"images: got {pixels.dtype}, allowed is uint8; scale and round first")
        images = pixels.view(cls)
        images.seed, images.first_index, images.labels = seed, first_index, labels or []
        return images

    def __array_finalize__(self, source: Any) -> None:
        self.seed = getattr(source, "seed", None)
        self.first_index = getattr(source, "first_index", 0)
        self.labels = getattr(source, "labels", [])

    @classmethod
    def open(cls, paths: Iterable[str | Path], channels: int) -> Self:
        """Read picture files of one size as the server does: turned by EXIF, alpha over black, grey (1) or RGB (3).

        Raises: ValueError, if their sizes differ or there is none; OSError, if one cannot be read.
        """
        pictures = []
        for path in paths:
            with Image.open(path) as file:
                picture = ImageOps.exif_transpose(file)
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
            picture = picture.convert("L" if channels == 1 else "RGB")
            pictures.append(np.asarray(picture).reshape(picture.height, picture.width, channels))
        if len({picture.shape for picture in pictures}) != 1:
            sizes = sorted({f"{picture.shape[1]}x{picture.shape[0]}" for picture in pictures})
            raise ValueError(f"images: got files of {', '.join(sizes) or 'no size'}, allowed are files of one size")
        return cls(np.stack(pictures))

    def grid(self, columns: int | None = None) -> Image.Image:
        """All pictures on one sheet, row by row with a gap between; as square as it gets if `columns` is None.

        Raises: ValueError, if there is no picture or the array is not (N, H, W, 1 or 3).
        """
        pictures = _checked(self)
        count, height, width, channels = pictures.shape
        columns = columns or math.ceil(math.sqrt(count))
        rows = math.ceil(count / columns)
        sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), GAP_GREY, np.uint8)
        for number, picture in enumerate(pictures):
            row, column = divmod(number, columns)
            top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
            sheet[top : top + height, left : left + width] = picture
        factor = max(1, SHEET_PIXELS // sheet.shape[1])
        picture = _picture(sheet)
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)

    def save(self, path: str | Path, columns: int | None = None) -> Path:
        """Write to `path` and return it; the name's ending says how.

        .npy the array; .gif one picture after the other; other picture endings a sheet; no ending a folder of PNGs.

        Raises: ValueError, if the ending is not one of a picture format or there is no picture.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".npy":
            np.save(path, np.asarray(self))
        elif suffix == "":
            path.mkdir(exist_ok=True)
            for number, picture in enumerate(_checked(self)):
                _picture(picture).save(path / f"{self.first_index + number:06d}.png")
        elif suffix == ".gif":
            frames = [Images(picture[np.newaxis]).grid() for picture in _checked(self)]
            frames[0].save(path, save_all=True, append_images=frames[1:], duration=ANIMATION_FRAME_MS, loop=0)
        else:
            self.grid(columns).save(path)
        return path


def _checked(images: Images) -> npt.NDArray[np.uint8]:
    array = np.asarray(images)
    if array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape:
        raise ValueError(f"images: got shape {array.shape}, a sheet needs (N, H, W, 1 or 3) with N >= 1")
    return array


def _picture(array: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
