"""Grids: pictures beside each other on one sheet, and files of them.

images (N, H, W, C) uint8 -> grid() -> one Pillow picture -> save()
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

GAP = 2
"""Pixels between the pictures of a sheet: drawings that fill their frame would run into each other without."""

GAP_GREY = 96
GRID_PIXELS = 512
"""A sheet's pictures are enlarged by a whole factor, to about this width."""

LARGEST_PIXELS = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}
"""What a side of a picture may have where Pillow's encoders would fail without saying so."""

ANIMATION_FRAME_MS = 80


def grid(images: npt.NDArray[np.uint8], columns: int | None = None) -> Image.Image:
    """All pictures on one sheet, row by row with a gap between; as square as it gets if `columns` is None.

    Raises: ValueError, if there is no picture or the array is not (N, H, W, 1 or 3) or (H, W, 1 or 3).
    """
    pictures = _checked(images)
    count, height, width, channels = pictures.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), GAP_GREY, np.uint8)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        sheet[top : top + height, left : left + width] = picture
    factor = max(1, GRID_PIXELS // sheet.shape[1])
    picture = _picture(sheet)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def save(
    images: npt.NDArray[np.uint8], path: str | Path, columns: int | None = None, names: Sequence[str] = ()
) -> Path:
    """Write to `path` and return it; the name's ending says how.

    .npy the array; .gif one picture after the other; other picture endings a sheet; no ending a folder of PNGs
    named by seed, if there is one, and index: 7-000012.png.

    Raises: ValueError, if the ending is not one of a picture format, there is no picture, or the sheet is larger than
        the format allows; OSError, if it cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".npy":
        np.save(path, np.asarray(images))
    elif suffix == "":
        path.mkdir(exist_ok=True)
        pictures = _checked(images)
        for name, picture in zip(names or [f"{index:06d}" for index in range(len(pictures))], pictures, strict=True):
            _picture(picture).save(path / f"{name}.png")
    elif suffix == ".gif":
        frames = [grid(picture[np.newaxis]) for picture in _checked(images)]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=ANIMATION_FRAME_MS, loop=0)
    else:
        sheet = grid(images, columns)
        largest = LARGEST_PIXELS.get(suffix)
        if largest and max(sheet.size) > largest:
            got = f"got a sheet of {sheet.width}x{sheet.height} pixels"
            raise ValueError(f"{path}: {got}, allowed in {suffix} are {largest} a side; take .png or other columns")
        sheet.save(path)
    return path


def _checked(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    array = np.asarray(images)
    if array.ndim == 3:
        array = array[np.newaxis]
    if array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape:
        raise ValueError(f"images: got shape {array.shape}, a sheet needs (N, H, W, 1 or 3) with N >= 1")
    return array


def _picture(array: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
