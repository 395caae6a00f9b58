"""Where training images come from: scikit-learn's digits, a folder, or a parquet file.

    name or path -> decoded pictures -> one size and mode -> ImageSet

A picture is turned by its EXIF orientation, put over black where it has alpha, cropped to the centre square and
resized with antialiasing. The set is grey if every picture is. A folder whose pictures all lie in subfolders takes
the subfolders as labels.
"""

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps, UnidentifiedImageError

from training.data import ImageSet
from training.errors import DataError
from training.networks import is_supported_size

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


class _Picture(NamedTuple):
    name: str
    encoded: Path | io.BytesIO
    label: int | None


def load(data: str, size: int | None, skip_broken: bool = False) -> ImageSet:
    """Read `data` ("digits", a folder or a .parquet file) at `size` pixels, or at the pictures' own size.

    Raises: DataError, naming what is missing, unreadable or of the wrong size.
    """
    if size is not None and not is_supported_size(size):
        raise DataError(f"size: {size} is not 4, 5, 6 or 7 times a power of two from 8 to 512, such as 28, 32 or 64")
    path = Path(data)
    if data == "digits":
        return _digits(size or 32)
    if path.is_dir():
        pictures, label_names = _folder(path)
    elif path.suffix == ".parquet" and path.is_file():
        pictures, label_names = _parquet(path)
    else:
        raise DataError(f"data: {data!r} is neither 'digits' nor a folder nor a .parquet file")
    return _decode_all(pictures, label_names, size, skip_broken)


def _digits(size: int) -> ImageSet:
    from sklearn.datasets import load_digits  # slow to import, and only this source needs it

    digits = load_digits()
    grey = (digits.images * (255 / 16)).round().astype(np.uint8)
    pictures = [Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC) for picture in grey]
    images = np.stack([np.asarray(picture) for picture in pictures])[..., None]
    return ImageSet(images, digits.target.astype(np.int64), [str(name) for name in digits.target_names])


def _folder(folder: Path) -> tuple[Iterable[_Picture], list[str]]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise DataError(f"data: no image in {folder} (looked for {' '.join(sorted(SUFFIXES))})")
    parts = [path.relative_to(folder).parts for path in files]
    names = sorted({part[0] for part in parts}) if all(len(part) > 1 for part in parts) else []
    numbers = {name: number for number, name in enumerate(names)}
    pictures = (_Picture(str(path), path, numbers.get(part[0])) for path, part in zip(files, parts, strict=True))
    return pictures, names


def _parquet(path: Path) -> tuple[Iterable[_Picture], list[str]]:
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"data: {path} is not a parquet file: {error}") from None
    schema = file.schema_arrow
    if "image" not in schema.names:
        raise DataError(f"data: {path} has no column 'image'; its columns are {', '.join(schema.names)}")
    has_labels = "label" in schema.names and pa.types.is_integer(schema.field("label").type)

    def rows() -> Iterator[_Picture]:
        for batch in file.iter_batches(columns=["image", *(["label"] if has_labels else [])]):
            for row in batch.to_pylist():
                cell = row["image"]
                encoded = cell["bytes"] if isinstance(cell, dict) else cell
                yield _Picture(f"{path} row {next(count)}", io.BytesIO(encoded or b""), row.get("label"))

    count = iter(range(file.metadata.num_rows))
    names: list[str] = []
    if has_labels:
        column = pq.read_table(path, columns=["label"])["label"]
        highest = max((number for number in column.to_pylist() if number is not None), default=-1)
        names = _class_names(schema) or [str(number) for number in range(highest + 1)]
    return rows(), names


def _class_names(schema: pa.Schema) -> list[str]:
    """Names of the classes as Hugging Face `datasets` keeps them in the schema's metadata; [] if it has none."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    features = json.loads(text).get("info", {}).get("features", {})
    names: list[str] = features.get("label", {}).get("names", [])
    return names


def _decode_all(pictures: Iterable[_Picture], label_names: list[str], size: int | None, skip_broken: bool) -> ImageSet:
    decoded: list[Image.Image] = []
    labels: list[int | None] = []
    broken: list[str] = []
    for name, encoded, label in pictures:
        if label_names and (label is None or not 0 <= label < len(label_names)):
            broken.append(f"{name}: label {label} is none of 0 to {len(label_names) - 1}")
            continue
        try:
            with Image.open(encoded) as picture:
                decoded.append(_square(_flatten(ImageOps.exif_transpose(picture)), size))
            labels.append(label)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
            broken.append(f"{name}: {error}")
    if broken and not skip_broken:
        listed = "\n  ".join(broken[:20] + ["..."] * (len(broken) > 20))
        raise DataError(f"data: {len(broken)} pictures cannot be read (--skip-broken leaves them out):\n  {listed}")
    if not decoded:
        raise DataError("data: no picture could be read")
    sizes = {picture.size for picture in decoded}
    width, height = decoded[0].size
    if len(sizes) > 1 or width != height or not is_supported_size(width):
        listed = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)[:5])
        more = f" and {len(sizes) - 5} more sizes" if len(sizes) > 5 else ""
        raise DataError(
            f"size: got pictures of {listed}{more}; networks need one square size; choose it, e.g. --size 64"
        )
    grey = all(picture.mode == "L" for picture in decoded)
    arrays = [np.asarray(picture if grey else picture.convert("RGB")) for picture in decoded]
    images: npt.NDArray[np.uint8] = np.stack(arrays).reshape(len(arrays), *arrays[0].shape[:2], -1)
    return ImageSet(images, np.array(labels, np.int64) if label_names else None, label_names)


def _flatten(picture: Image.Image) -> Image.Image:
    """Grey (L) or RGB, 8 bits a channel, alpha put over black."""
    if picture.mode in {"1", "L"}:
        return picture.convert("L")
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        over = picture.convert("RGBA")
        black = Image.new("RGBA", over.size, (0, 0, 0, 255))
        flat = Image.alpha_composite(black, over).convert("RGB")
        return flat.convert("L") if picture.mode == "LA" else flat
    return picture.convert("RGB")


def _square(picture: Image.Image, size: int | None) -> Image.Image:
    """Cropped to the centre square and resized; by no `size`, only square pictures stay as they are."""
    if size is None:
        return picture
    return ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
