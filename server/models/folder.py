"""What a folder of models holds, as its names tell.

    models folder -> scan_folder() -> versions to load, and strays: what is there and is no model, with what to do about it

Reads names, and no bundle. What was not found cannot be served, so it is told rather than passed over.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from figment.bundles import NAME, NAME_RULE
from server.errors import CannotStart, quote

log = structlog.get_logger()

TOLD_STRAYS = 5
"""Strays that are named where there is nothing else."""

MAX_STRAYS = 20
"""Lines in the log about what is no model."""

_VERSION = re.compile("[1-9][0-9]*")

_KNOWN_FILES = ("config.pbtxt", "routing.json")
"""Files beside a model's versions."""


@dataclass(frozen=True)
class FolderScan:
    """Versions as (model, version), in order, and a line for each stray."""

    folder: Path
    versions: tuple[tuple[str, str], ...]
    strays: tuple[str, ...]

    @property
    def nothing(self) -> str:
        """What is wrong and what to do where there is no version."""
        problem = f"models: there is no model in {self.folder}"
        if self.strays:
            more = "; ..." if len(self.strays) > TOLD_STRAYS else ""
            problem = f"models: nothing in {self.folder} is a model: {'; '.join(self.strays[:TOLD_STRAYS])}{more}"
        return f"{problem}; figment export <run> --models {self.folder} makes one, then start the server again"


def scan_folder(folder: Path) -> FolderScan:
    """Find all versions of all models in `folder`.

    Raises: CannotStart, if it cannot be read: there is nothing to wait for.
    """
    try:
        entries = _entries(folder)
    except FileNotFoundError:
        problem = f"models: there is no folder {folder}"
        raise CannotStart(f"{problem}: figment export <run> --models {folder} makes a model in it") from None
    except OSError as error:
        raise CannotStart(f"models: {folder} cannot be read: {error.strerror}{_who()}") from None
    if any(entry.name == "manifest.json" for entry in entries):
        return FolderScan(folder, (), (f"it is one version: serve --models {folder.resolve().parent.parent}",))
    versions: list[tuple[str, str]] = []
    strays: list[str] = []
    for entry in entries:
        problem = _no_model(entry)
        if not problem:
            try:
                below = _entries(Path(entry.path))
            except OSError as error:
                problem = f"cannot be read: {error.strerror}{_who()}"
        if problem:
            strays.append(f"{quote(entry.name)}: {problem}")
            continue
        found = [inner.name for inner in below if _is_folder(inner) and _VERSION.fullmatch(inner.name)]
        wrong = [
            f"{quote(f'{entry.name}/{inner.name}')}: {_no_version(inner)}" for inner in below if _no_version(inner)
        ]
        versions += [(entry.name, version) for version in sorted(found, key=int)]
        strays += wrong
        if not found and not wrong:
            strays.append(f"{quote(entry.name)}: has no version: folders 1, 2, 3 ... that figment export writes")
    return FolderScan(folder, tuple(versions), tuple(strays))


def log_strays(scan: FolderScan) -> None:
    """Log what a folder of models holds beside models."""
    for stray in scan.strays[:MAX_STRAYS]:
        log.warning("not served", folder=str(scan.folder), reason=stray)
    if len(scan.strays) > MAX_STRAYS:
        log.warning("not served", folder=str(scan.folder), reason=f"{len(scan.strays) - MAX_STRAYS} more")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder by name; hidden names are nobody's models."""
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _no_model(entry: os.DirEntry[str]) -> str:
    """Why something is no model; "" if it is one."""
    if not _is_folder(entry):
        return _no_folder(entry, "models are folders")
    inside, models = set(_names(entry)), Path(entry.path).parent
    if "run.json" in inside:
        return f"a run, no model: figment export {entry.path} --models {models} makes one of it"
    if "manifest.json" in inside:
        if _VERSION.fullmatch(entry.name):
            where = f"{models}/<model>/{entry.name}, or serve --models {models.resolve().parent}"
            return f"one version without its model's folder: move it to {where}"
        return f"one version of a model: move it to {models}/{entry.name}/1, as its manifest names it"
    if not NAME.fullmatch(entry.name):
        return f"not allowed as a model's name: {NAME_RULE}{_nearest_name(entry.name)}"
    if inside and not any(map(_VERSION.fullmatch, inside)) and _holds_models(entry):
        return f"a folder of models: serve it with --models {entry.path}"
    return ""


def _no_version(entry: os.DirEntry[str]) -> str:
    """Why something in a model's folder is no version; "" if it is one or one of the files that belong there."""
    if not _is_folder(entry):
        return "" if entry.name in _KNOWN_FILES else _no_folder(entry, "versions are folders")
    if _VERSION.fullmatch(entry.name):
        return ""
    digits = re.search("[1-9][0-9]*", entry.name)
    nearest = f"; the nearest is {digits[0]}" if digits else ""
    return f"not a version: versions are 1, 2, 3 ... without leading zeros{nearest}"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle, or where this user may not look
        return False


def _no_folder(entry: os.DirEntry[str], rule: str) -> str:
    is_broken = entry.is_symlink() and not os.path.exists(entry.path)
    return "a link to nothing that can be read" if is_broken else f"a file; {rule}"


def _nearest_name(name: str) -> str:
    nearest = re.sub("[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:64]
    return f"; the nearest is {nearest}" if NAME.fullmatch(nearest) else ""


def _names(entry: os.DirEntry[str]) -> Iterator[str]:
    try:
        yield from os.listdir(entry.path)
    except OSError:  # told by whoever needs to read it
        return


def _holds_models(entry: os.DirEntry[str]) -> bool:
    return any(_VERSION.fullmatch(path.parent.name) for path in Path(entry.path).glob("*/*/manifest.json"))


def _who() -> str:
    return f"; the server runs as user {os.getuid()}" if hasattr(os, "getuid") else ""
