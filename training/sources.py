"""Where training images come from: scikit-learn's digits, OpenMoji's drawings, a folder of images, or parquet files.

    name, path or pattern -> Source -> pictures decoded to one size -> Stack -> ImageSet -> what was odd is told

The set is grey if every picture is. A folder whose pictures all lie in subfolders takes the subfolders as labels, unless they
are splits. What becomes of a picture is the business of `pictures`: without a size pictures must have one already, square and
supported.
"""

import logging
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
from PIL import Image

from figment.imaging import UnreadablePicture, ValueRange
from training import drawings, openmoji
from training.architecture import is_supported_size
from training.data import ImageSet
from training.errors import DataError
from training.listing import listing
from training.oddities import Oddities
from training.parquet import shards_source
from training.pictures import Picture, Source, endings, listed
from training.progress import counted
from training.splits import are_splits, taken
from training.store import Contents, Stack, in_memory, on_disk

WORDS = ("digits", openmoji.NAME)
"""Sets that packages bring."""

LISTED = 20
"""Broken pictures that a message names at most."""


def load(
    data: str,
    size: int | None,
    skip_broken: bool = False,
    cache: Path | None = None,
    *,
    value_range: ValueRange | None = None,
    splits: Sequence[str] = (),
    needs_labels: bool = False,
) -> ImageSet:
    """Read `data` at `size` pixels, or at the pictures' own size; what was left out or looks odd is a warning to the log.

    data: "digits", "openmoji" (by default at 64 pixels), a folder of images or of .parquet files, one such file, or a pattern
        such as "train-*.parquet".
    skip_broken: unreadable pictures are left out with a warning; else they are an error.
    cache: a folder for decoded images, from which they are mapped; without it, and for "digits", all are in memory.
    value_range: what is black and white in pictures of more than 8 bits a channel; by default as their files say.
    splits: of a set that comes in parts, those to read; by default train.
    needs_labels: a set without classes, or with one alone, is an error.

    Raises: DataError, naming what is missing, unreadable or of the wrong size.
    """
    if size is not None and not is_supported_size(size):
        raise DataError(f"size: {size} is not 4, 5, 6 or 7 times a power of two from 8 to 512, such as 28, 32 or 64")
    if data in WORDS and splits:
        raise DataError(f"split: got {', '.join(splits)}; {data} has no splits")
    if data == "digits":
        return _digits(size or 32)
    if data == openmoji.NAME:
        size = size or openmoji.SIZE
    source = _source(data, splits, needs_labels)
    if needs_labels and not source.label_names:
        why = source.unlabelled or "they are the names of subfolders or a column 'label'"
        raise DataError(f"conditional: {data} has no labels to teach: {why}")

    def decode(file: BinaryIO) -> Contents:
        pictures = counted(f"data: {data}", source.pictures)
        return _decode(source._replace(pictures=pictures), size, value_range, skip_broken, file)

    if cache is None:
        images, contents = in_memory(decode)
    else:
        key = [_stats(source.files), source.label_names, size, skip_broken, value_range, _readers(source.files)]
        images, contents = on_disk(cache, key, decode)
    _tell(data, source, contents)
    if needs_labels and images.labels is not None and len(found := np.unique(images.labels)) < 2:
        raise DataError(
            f"conditional: all {len(images)} pictures of {data} are of the class {images.label_names[found[0]]!r}; "
            "labels teach something where there are two"
        )
    return images


def notices(data: str) -> list[str]:
    """What is to be said wherever images of `data` go, or what learned from them: whose they are, and how they may be used."""
    return [openmoji.NOTICE] if data == openmoji.NAME else []


def _readers(files: list[Path]) -> list[str]:
    """What decodes files of these names, and by which version."""
    return [PIL.__version__] + [drawings.drawn_by()] * any(file.suffix.lower() == drawings.ENDING for file in files)


def _stats(files: list[Path]) -> list[tuple[str, int, int]]:
    """What tells whether files have changed."""
    found = []
    for file in files:
        try:
            stat = file.stat()
            found.append((str(file.resolve()), stat.st_size, stat.st_mtime_ns))
        except OSError:  # gone, or a link to nowhere: told where it is to be decoded
            found.append((str(file), 0, 0))
    return found


def _tell(data: str, source: Source, contents: Contents) -> None:
    log = logging.getLogger("figment.training")
    unlabelled = [f"without labels: {source.unlabelled}"] if source.unlabelled and not source.label_names else []
    for note in (*source.notes, *unlabelled, *contents.notes):
        log.warning("%s: %s", data, note)
    if contents.broken:
        message = "%s: left out %d pictures that cannot be read:\n  %s"
        log.warning(message, data, len(contents.broken), _lines(contents.broken))


def _digits(size: int) -> ImageSet:
    from sklearn.datasets import load_digits  # slow to import, and only this source needs it

    digits = load_digits()
    grey = (digits.images * (255 / 16)).round().astype(np.uint8)
    pictures = [Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC) for picture in grey]
    images = np.stack([np.asarray(picture) for picture in pictures])[..., None]
    return ImageSet(images, digits.target.astype(np.int64), [str(name) for name in digits.target_names])


def _source(data: str, splits: Sequence[str], needs_labels: bool) -> Source:
    if data == openmoji.NAME:
        return openmoji.source()
    path = Path(data)
    if path.is_dir():
        found = listing(path)
        if found.shards and found.pictures:
            shard, picture = found.shards[0], found.pictures[0]
            raise DataError(f"data: {path} mixes parquet files and images, such as {shard} and {picture}")
        if not found.shards:
            return _folder(path, found.pictures, splits, found.notes)
        source = shards_source(found.shards, splits, data, needs_labels)
        return source._replace(notes=found.notes + source.notes)
    if path.is_file() and path.suffix.lower() == ".parquet":
        return shards_source([path], splits, data, needs_labels)
    if has_magic(data):
        matching = sorted(Path(name) for name in glob(data, recursive=True))
        others = [str(file) for file in matching if file.suffix.lower() != ".parquet"]
        if others or not matching:
            raise DataError(
                f"data: the pattern {data!r} matches {(others or ['nothing'])[0]}; allowed are .parquet files"
            )
        return shards_source(matching, splits, data, needs_labels)
    raise DataError(
        f"data: {data!r} is neither {' nor '.join(map(repr, WORDS))} nor a folder nor a .parquet file nor a pattern of such files"
    )


def _folder(folder: Path, files: list[Path], splits: Sequence[str], notes: list[str]) -> Source:
    if not files:
        left_out = "".join(f"; {note}" for note in notes)
        raise DataError(f"data: no image in {folder} (looked for {' '.join(sorted(endings()))} and .parquet){left_out}")
    parts = [path.relative_to(folder).parts for path in files]
    files, parts, told = _of_splits(files, parts, splits, str(folder))
    notes = notes + told
    at_top = [part[0] for part in parts if len(part) == 1]
    names = sorted({part[0] for part in parts if len(part) > 1})
    unlabelled = ""
    if at_top and names:
        unlabelled = f"pictures lie beside the folders {listed(names)}: {len(at_top)}, such as {at_top[0]}"
        names = []
    if names and (deeper := sorted({"/".join(part[:-1]) for part in parts if len(part) > 2})):
        notes.append(f"labels are the folders {listed(names)}; {len(deeper)} deeper ones are none: {listed(deeper)}")
    numbers = {name: number for number, name in enumerate(names)}
    names = [
        name.encode(errors="surrogateescape").decode(errors="replace") for name in names
    ]  # a folder's may be any bytes
    pictures = (Picture(str(path), path, numbers.get(part[0])) for path, part in zip(files, parts, strict=True))
    return Source(files, names, pictures, notes, unlabelled, drops_empty=True)


_Parts = list[tuple[str, ...]]


def _of_splits(
    files: list[Path], parts: _Parts, splits: Sequence[str], data: str
) -> tuple[list[Path], _Parts, list[str]]:
    """Files of the splits that are to be read, and their paths without the split's folder, the first or second of each."""
    for level in (0, 1):
        words = [part[level] if len(part) > level + 1 else "" for part in parts]
        if are_splits(words):
            chosen, note = taken(words, splits, data, "pictures")
            rows = [row for row, word in enumerate(words) if word in chosen]
            rest = [parts[row][:level] + parts[row][level + 1 :] if words[row] else parts[row] for row in rows]
            return [files[row] for row in rows], rest, [note]
    if splits:
        raise DataError(
            f"split: got {', '.join(splits)}; {data} has no splits, which are folders named train, test ..."
        )
    return files, parts, []


def _decode(
    source: Source, size: int | None, value_range: ValueRange | None, skip_broken: bool, file: BinaryIO
) -> Contents:
    stack, names, odd = Stack(file), source.label_names, Oddities()
    labels: list[int | None] = []
    broken: list[str] = []
    sizes: set[tuple[int, int]] = set()
    for picture in source.pictures:
        try:
            if names and (picture.label is None or not 0 <= picture.label < len(names)):
                raise UnreadablePicture(f"label {picture.label} is none of 0 to {len(names) - 1}")
            decoded = picture.decoded(size, value_range)
        except UnreadablePicture as error:
            broken.append(f"{picture.name}: {error}")
            continue
        image = decoded.image
        sizes.add((image.shape[1], image.shape[0]))
        if _fit(sizes):
            stack.add(image)
            labels.append(picture.label)
            odd.see(picture.name, decoded)
    if broken and not skip_broken:
        count = f"{len(broken)} pictures"
        raise DataError(f"data: {count} cannot be read (--skip-broken leaves them out):\n  {_lines(broken)}")
    if not sizes:
        raise DataError(
            f"data: no picture could be read:\n  {_lines(broken)}" if broken else "data: there are no pictures"
        )
    if not _fit(sizes):
        found = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)[:5])
        more = f" and {len(sizes) - 5} more sizes" if len(sizes) > 5 else ""
        raise DataError(
            f"size: got pictures of {found}{more}; networks need one square size; choose it, e.g. --size 64"
        )
    notes = odd.notes()
    if not names:
        return Contents(stack.shape, None, [], broken, notes)
    numbers = np.array(labels, np.int64)
    if source.drops_empty and (empty := sorted(set(range(len(names))) - set(numbers.tolist()))):
        notes.append(f"no class, as none of its pictures can be read: {listed([names[number] for number in empty])}")
        there, numbers = np.unique(numbers, return_inverse=True)
        names = [names[number] for number in there]
    return Contents(stack.shape, numbers, names, broken, notes)


def _fit(sizes: set[tuple[int, int]]) -> bool:
    """Whether networks can take pictures of these widths and heights."""
    return len(sizes) == 1 and all(width == height and is_supported_size(width) for width, height in sizes)


def _lines(broken: list[str]) -> str:
    return "\n  ".join(broken[:LISTED] + ["..."] * (len(broken) > LISTED))
