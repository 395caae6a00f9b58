"""What lies in a folder of a data set: pictures, parquet files, and what is no part of it.

    folder -> its folders, then those that links lead to, each once -> Listing

Dot files and what systems, file servers and archivers leave behind are left out, and files of other endings; all are counted.
"""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from training.errors import DataError
from training.pictures import endings, listed

LEFT_BEHIND = frozenset(
    {
        "#recycle", "$RECYCLE.BIN", "@Recycle", "@eaDir", "System Volume Information", "Thumbs.db", "__MACOSX",
        "__pycache__", "desktop.ini", "lost+found",
    }
)  # fmt: skip
"""Names of folders and files that nobody made; so are all that begin with a dot."""

HEIC = frozenset({".heic", ".heif", ".hif"})
ENDINGS_TOLD = 8


class Listing(NamedTuple):
    """Files in the order of their paths. notes: what was left out."""

    pictures: list[Path]
    shards: list[Path]
    notes: list[str]


def listing(folder: Path) -> Listing:
    """All files below `folder`.

    Raises: DataError, if a folder cannot be read.
    """
    walk = _Walk(folder)
    walk.run()
    pictures = sorted(path for path in walk.files if path.suffix.lower() in endings())
    shards = sorted(path for path in walk.files if path.suffix.lower() == ".parquet")
    others = (
        Counter(_ending(path) for path in walk.files) - Counter(map(_ending, pictures)) - Counter(map(_ending, shards))
    )
    notes = []
    if walk.hidden:
        notes.append(f"left out {_counted(walk.hidden, 'hidden file or folder', 'hidden files or folders')}")
    if walk.repeated:
        notes.append(f"left out {_counted(walk.repeated, 'link to a folder', 'links to folders')}, read already")
    if walk.special:
        notes.append(f"left out {_counted(walk.special, 'pipe or device', 'pipes or devices')}")
    if others:
        told = listed([f"{ending} ({count})" for ending, count in others.most_common()], ENDINGS_TOLD)
        convert = "; HEIC cannot be read, convert it to PNG or JPEG" if others.keys() & HEIC else ""
        notes.append(f"left out {_files(others.total())} of other endings: {told}{convert}")
    return Listing(pictures, shards, notes)


class _Walk:
    """Every folder once, under the name that is no link where there is one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.files: list[Path] = []
        self.hidden: list[str] = []
        self.repeated: list[str] = []
        self.special: list[str] = []

    def run(self) -> None:
        """Raises: DataError, if a folder cannot be read."""
        seen: set[tuple[int, int]] = set()
        folders, links = [self._root], list[Path]()
        while folders or links:
            folder = folders.pop() if folders else links.pop(0)
            try:
                stat = folder.stat()
                if (stat.st_dev, stat.st_ino) in seen:
                    self.repeated.append(self._name(folder))
                    continue
                seen.add((stat.st_dev, stat.st_ino))
                with os.scandir(folder) as entries:
                    inside = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                raise DataError(f"data: folder {folder} cannot be read: {error.strerror}") from error
            for entry in inside:
                path = folder / entry.name
                if entry.name.startswith(".") or entry.name in LEFT_BEHIND:
                    self.hidden.append(self._name(path))
                elif _is(entry.is_dir):
                    (links if entry.is_symlink() else folders).append(path)
                elif _is(entry.is_file) or entry.is_symlink():  # a link to nowhere is a picture that cannot be read
                    self.files.append(path)
                else:
                    self.special.append(self._name(path))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def _is(kind: Callable[[], bool]) -> bool:
    """kind: a method of an os.DirEntry; False where a link leads in a circle or beyond what may be read."""
    try:
        return kind()
    except OSError:
        return False


def _ending(path: Path) -> str:
    return path.suffix.lower() or "no ending"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _counted(names: list[str], one: str, many: str) -> str:
    return f"{len(names)} {one if len(names) == 1 else many}: {listed(sorted(names))}"
