"""Where training images come from: scikit-learn's digits, a folder of images, or parquet files.

    name, path or pattern -> Source -> pictures decoded to one size -> Stack -> ImageSet

The set is grey if every picture is. A folder whose pictures all lie in subfolders takes the subfolders as labels. What
becomes of a picture is the business of `pictures`: without a size pictures must have one already, square and supported.
"""

import logging
from glob import glob, has_magic
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
from PIL import Image

from training.data import ImageSet
from training.errors import DataError
from training.networks import is_supported_size
from training.parquet import shards_source
from training.pictures import Picture, Source, Unreadable
from training.store import Contents, Stack, in_memory, on_disk

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

LISTED = 20
"""Broken pictures that a message names at most."""


def load(data: str, size: int | None, skip_broken: bool = False, cache: Path | None = None) -> ImageSet:
    """Read `data` at `size` pixels, or at the pictures' own size.

    data: "digits", a folder of images or of .parquet files, one such file, or a pattern such as "train-*.parquet".
    skip_broken: unreadable pictures are left out with a warning to the log; else they are an error.
    cache: a folder for decoded images, from which they are mapped; without it, and for "digits", all are in memory.

    Raises: DataError, naming what is missing, unreadable or of the wrong size.
    """
    if size is not None and not is_supported_size(size):
        raise DataError(f"size: {size} is not 4, 5, 6 or 7 times a power of two from 8 to 512, such as 28, 32 or 64")
    if data == "digits":
        return _digits(size or 32)
    source = _source(data)

    def decode(file: BinaryIO) -> Contents:
        return _decode(source, size, skip_broken, file)

    if cache is None:
        images, broken = in_memory(decode)
    else:
        stats = [(str(file.resolve()), file.stat()) for file in source.files]
        files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
        images, broken = on_disk(cache, [files, source.label_names, size, skip_broken, PIL.__version__], decode)
    if broken:
        message = "%s: left out %d pictures that cannot be read:\n  %s"
        logging.getLogger("figment.training").warning(message, data, len(broken), _listed(broken))
    return images


def _digits(size: int) -> ImageSet:
    from sklearn.datasets import load_digits  # slow to import, and only this source needs it

    digits = load_digits()
    grey = (digits.images * (255 / 16)).round().astype(np.uint8)
    pictures = [Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC) for picture in grey]
    images = np.stack([np.asarray(picture) for picture in pictures])[..., None]
    return ImageSet(images, digits.target.astype(np.int64), [str(name) for name in digits.target_names])


def _source(data: str) -> Source:
    path = Path(data)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        shards = [file for file in files if file.suffix == ".parquet"]
        images = [file for file in files if file.suffix.lower() in SUFFIXES]
        if shards and images:
            raise DataError(f"data: {path} mixes parquet files and images, such as {shards[0]} and {images[0]}")
        return shards_source(shards) if shards else _folder(path, images)
    if path.is_file() and path.suffix == ".parquet":
        return shards_source([path])
    if has_magic(data):
        found = sorted(Path(name) for name in glob(data, recursive=True))
        others = [str(file) for file in found if file.suffix != ".parquet"]
        if others or not found:
            raise DataError(
                f"data: the pattern {data!r} matches {(others or ['nothing'])[0]}; allowed are .parquet files"
            )
        return shards_source(found)
    raise DataError(f"data: {data!r} is neither 'digits' nor a folder nor a .parquet file nor a pattern of such files")


def _folder(folder: Path, files: list[Path]) -> Source:
    if not files:
        raise DataError(f"data: no image in {folder} (looked for {' '.join(sorted(SUFFIXES))} and .parquet)")
    parts = [path.relative_to(folder).parts for path in files]
    names = sorted({part[0] for part in parts}) if all(len(part) > 1 for part in parts) else []
    numbers = {name: number for number, name in enumerate(names)}
    pictures = (Picture(str(path), path, numbers.get(part[0])) for path, part in zip(files, parts, strict=True))
    return Source(files, names, pictures)


def _decode(source: Source, size: int | None, skip_broken: bool, file: BinaryIO) -> Contents:
    stack, names = Stack(file), source.label_names
    labels: list[int | None] = []
    broken: list[str] = []
    sizes: set[tuple[int, int]] = set()
    for picture in source.pictures:
        try:
            if names and (picture.label is None or not 0 <= picture.label < len(names)):
                raise Unreadable(f"label {picture.label} is none of 0 to {len(names) - 1}")
            image = picture.decoded(size)
        except Unreadable as error:
            broken.append(f"{picture.name}: {error}")
            continue
        sizes.add((image.shape[1], image.shape[0]))
        if _fit(sizes):
            stack.add(image)
            labels.append(picture.label)
    if broken and not skip_broken:
        count = f"{len(broken)} pictures"
        raise DataError(f"data: {count} cannot be read (--skip-broken leaves them out):\n  {_listed(broken)}")
    if not sizes:
        raise DataError("data: no picture could be read")
    if not _fit(sizes):
        found = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)[:5])
        more = f" and {len(sizes) - 5} more sizes" if len(sizes) > 5 else ""
        raise DataError(
            f"size: got pictures of {found}{more}; networks need one square size; choose it, e.g. --size 64"
        )
    return Contents(stack.shape, np.array(labels, np.int64) if names else None, names, broken)


def _fit(sizes: set[tuple[int, int]]) -> bool:
    """Whether networks can take pictures of these widths and heights."""
    return len(sizes) == 1 and all(width == height and is_supported_size(width) for width, height in sizes)


def _listed(broken: list[str]) -> str:
    return "\n  ".join(broken[:LISTED] + ["..."] * (len(broken) > LISTED))
