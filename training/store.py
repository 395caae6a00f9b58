"""Decoded images one after another in a file: in memory, or in a cache on disk for sets that memory cannot hold.

    decode -> Stack -> memory                                            -> ImageSet
    decode -> Stack -> <cache>/.<key>-<unique>/ -> renamed <cache>/<key>/ -> map -> ImageSet

    pixels      (N, H, W, C) uint8, nothing else
    labels.npy  (N,) int64, where there are labels
    set.json    shape, names of the labels, pictures that were left out, what else was odd

The key is a hash of what was decoded and how, so what has changed is decoded anew; nothing is ever removed from a cache.
An entry appears whole or not at all: of two processes that write the same one, the slower takes the other's.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from training.data import ImageSet
from training.errors import DataError

FORMAT = 2
"""Part of every key: a higher number leaves the entries of older versions unread."""

Array = npt.NDArray[np.uint8]


class Contents(NamedTuple):
    """What decoding found beside the pixels.

    broken: the pictures left out, each with the reason. notes: what a person should know of the others.
    """

    shape: tuple[int, ...]
    labels: npt.NDArray[np.int64] | None
    label_names: list[str]
    broken: list[str]
    notes: list[str]


Decode = Callable[[BinaryIO], Contents]
"""Writes pixels (N, H, W, C) uint8 to a file."""


class Stack:
    """Images of one size, written to `file` as they come: grey until the first in colour comes, then all RGB."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._count = 0
        self._size = (0, 0)
        self._channels = 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """What the file holds: (N, H, W, C) uint8."""
        return self._count, *self._size, self._channels

    def add(self, image: Array) -> None:
        """image: (H, W) or (H, W, 3) uint8."""
        assert self._count == 0 or image.shape[:2] == self._size, "all images of a stack have one size"
        self._size = (image.shape[0], image.shape[1])
        if image.ndim == 3 and self._channels == 1:
            self._turn_to_rgb()
        self._file.write(image.tobytes() if image.ndim == 3 or self._channels == 1 else _rgb(image))
        self._count += 1

    def _turn_to_rgb(self) -> None:
        """In place, and from the last image to the first, so that none is overwritten before it is read."""
        self._channels = 3
        plane = self._size[0] * self._size[1]
        for row in reversed(range(self._count)):
            self._file.seek(row * plane)
            grey = np.frombuffer(self._file.read(plane), np.uint8)
            self._file.seek(row * plane * 3)
            self._file.write(_rgb(grey))
        self._file.seek(self._count * plane * 3)


def in_memory(decode: Decode) -> tuple[ImageSet, Contents]:
    """What `decode` writes, and what it found."""
    file = BytesIO()
    contents = decode(file)
    images = np.frombuffer(file.getbuffer(), np.uint8).reshape(contents.shape)
    return ImageSet(images, contents.labels, contents.label_names), contents


def on_disk(cache: Path, source: object, decode: Decode) -> tuple[ImageSet, Contents]:
    """The entry of the folder `cache` for `source`, which `decode` writes if it is missing, mapped read-only.

    source: whatever decides what `decode` writes, as JSON takes it.

    Raises: DataError, if the folder cannot be written or the entry not be read.
    """
    key = hashlib.sha256(json.dumps([FORMAT, source]).encode()).hexdigest()[:32]
    entry = cache / key
    if not entry.is_dir():
        try:
            _write(entry, decode)
        except OSError as error:
            raise DataError(f"cache: {cache} cannot be written: {error}") from error
    try:
        facts = json.loads((entry / "set.json").read_text())
        images = np.memmap(entry / "pixels", np.uint8, "r", shape=tuple(facts["shape"]))
        labels = np.load(entry / "labels.npy") if facts["label_names"] else None
    except (OSError, ValueError) as error:
        raise DataError(f"cache: {entry} cannot be read, remove it: {error}") from error
    contents = Contents(images.shape, labels, facts["label_names"], facts["broken"], facts["notes"])
    return ImageSet(images, labels, contents.label_names), contents


def _write(entry: Path, decode: Decode) -> None:
    written = entry.with_name(f".{entry.name}-{uuid4().hex}")
    written.mkdir(parents=True)
    try:
        with (written / "pixels").open("w+b") as file:
            contents = decode(file)
        if contents.labels is not None:
            np.save(written / "labels.npy", contents.labels)
        facts = {name: value for name, value in contents._asdict().items() if name != "labels"}
        (written / "set.json").write_text(json.dumps(facts))
        written.rename(entry)
    except OSError:
        if not entry.is_dir():  # else another process wrote it meanwhile
            raise
    finally:
        shutil.rmtree(written, ignore_errors=True)


def _rgb(grey: Array) -> bytes:
    return np.repeat(grey, 3).tobytes()
