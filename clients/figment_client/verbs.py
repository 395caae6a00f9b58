"""The verbs that ask a server: generate, interpolate, reconstruct, models.

    options -> Client -> Images -> a file, and one line that says what was written

Each class is one verb, found by `figment.cli.command` through the entry points of this distribution.
"""

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, CliPositionalArg, SettingsConfigDict
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from figment.cli.variables import Variable
from figment.images import Images
from figment.v1 import manifest_pb2
from figment_client.client import ADDRESS_VARIABLE, DEFAULT_ADDRESS, Client
from figment_client.connection import ADDRESSES, is_address
from figment_client.errors import FigmentError
from figment_client.models import Model
from figment_client.replies import joined
from figment_client.requests import LONGEST_S

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".npy", "")
PROGRESS_IMAGES = 1000
"""Fewer images are there before a progress bar could be read."""

SECONDS_HELP = "seconds that a call may take"
OUT_HELP = "file to write: .png, .jpg, .webp a sheet, .gif an animation, .npy an array; without ending a folder of PNGs"


class NotSaved(Exception):
    """The images cannot be written as they were asked for."""


def _address(address: str) -> str:
    if not is_address(address):
        raise ValueError(f"allowed is {ADDRESSES}")
    return address


def _not_empty(path: object) -> object:
    if path == "":  # which Path would take for the current folder
        raise ValueError("allowed is the name of a file or folder")
    return path


def _with_known_ending(path: Path) -> Path:
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"allowed are the endings {', '.join(ENDINGS[:-1])}, or none for a folder")
    return path


Out = Annotated[Path, BeforeValidator(_not_empty), AfterValidator(_with_known_ending), Field(description=OUT_HELP)]
UInt64 = Annotated[int, Field(ge=0, lt=2**64)]
UInt32 = Annotated[int, Field(ge=0, lt=2**32)]


class _ClientVerb(BaseSettings):
    model_config = SettingsConfigDict(frozen=True)
    errors: ClassVar[tuple[type[Exception], ...]] = (FigmentError, NotSaved)

    address: Annotated[str, Variable(ADDRESS_VARIABLE), AfterValidator(_address)] = Field(
        DEFAULT_ADDRESS, description="host:port of the server"
    )
    timeout_s: float = Field(60.0, gt=0, le=LONGEST_S, description=SECONDS_HELP)

    def client(self) -> Client:
        """A client of the server asked for."""
        return Client(self.address, timeout_s=self.timeout_s)


class Generate(_ClientVerb):
    """Draw images with a server's model."""

    model: CliPositionalArg[str] = Field(description="name of the model")
    count: int = Field(16, ge=1, lt=2**32, description="number of images")
    seed: UInt64 | None = Field(None, description="decides the images; by default the server draws one")
    first_index: UInt64 = Field(0, description="index of the first image of the seed")
    label: UInt32 | None = Field(None, description="class of all images, by its number; by default one drawn for each")
    truncation: float = Field(1.0, gt=0, le=1, description="below 1: more typical, less varied images")
    version: str = Field("", description="version of the model; by default the newest that is ready")
    out: Out = Path("sheet.png")
    columns: int | None = Field(None, ge=1, description="images in a row of the sheet; by default as square as it gets")

    def cli_cmd(self) -> None:
        """Draw, save, and say what to repeat it with."""
        check_writable(self.out)
        started = time.monotonic()
        with self.client() as client:
            pieces = _with_progress(self._pieces(client), self.count)
            if self.out.suffix:
                images = joined(pieces, self.count)
                _save(images, self.out, self.columns)
                seed = images.seed
            else:  # A folder takes the pieces as they come: the images need not fit into memory.
                seed = self.seed
                for piece in pieces:
                    piece.save(self.out)
                    seed = piece.seed
        rate = self.count / (time.monotonic() - started)
        print(f"{self.out}: {self.count} images of {self.model}, {rate:.0f} images/s; repeat with --seed {seed}")

    def _pieces(self, client: Client) -> Iterator[Images]:
        return client.stream(
            self.model,
            self.count,
            seed=self.seed,
            first_index=self.first_index,
            label=self.label,
            truncation=self.truncation,
            version=self.version,
            timeout_s=self.timeout_s if self.count < PROGRESS_IMAGES else None,
        )


class Interpolate(_ClientVerb):
    """Draw the way between two images."""

    model: CliPositionalArg[str] = Field(description="name of the model")
    start_seed: UInt64 = Field(0, description="seed of the first image")
    start_index: UInt64 = Field(0, description="index of the first image")
    end_seed: UInt64 = Field(1, description="seed of the last image")
    end_index: UInt64 = Field(0, description="index of the last image")
    steps: int = Field(16, ge=2, lt=2**32, description="number of images, both ends included")
    method: Literal["lerp", "slerp"] = Field("lerp", description="the way: a straight line or a great circle")
    label: UInt32 | None = Field(None, description="class of all images, by its number; needed on a conditional model")
    version: str = Field("", description="version of the model; by default the newest that is ready")
    out: Out = Path("interpolation.png")

    def cli_cmd(self) -> None:
        """Draw and save one row."""
        check_writable(self.out)
        start, end = (self.start_seed, self.start_index), (self.end_seed, self.end_index)
        with self.client() as client:
            images = client.interpolate(
                self.model, start, end, self.steps, method=self.method, label=self.label, version=self.version
            )
        _save(images, self.out, self.steps)
        print(f"{self.out}: {self.steps} images of {self.model} from seed {start[0]} to seed {end[0]}")


class Reconstruct(_ClientVerb):
    """Show images as a model remembers them."""

    model: CliPositionalArg[str] = Field(description="name of the model")
    files: CliPositionalArg[list[Path]] = Field(description="PNG, JPEG or WebP files of the model's size")
    label: UInt32 | None = Field(None, description="class of all images, by its number; needed on a conditional model")
    version: str = Field("", description="version of the model; by default the newest that is ready")
    out: Out = Path("reconstruction.png")

    def cli_cmd(self) -> None:
        """Save the originals above their reconstructions."""
        check_writable(self.out)
        labels = [] if self.label is None else [self.label]
        with self.client() as client:
            known = client.model(self.model, self.version).manifest
            images = client.reconstruct(self.model, self.files, labels, version=self.version)
        value_range = (known.value_range.low, known.value_range.high) if known.HasField("value_range") else None
        originals = Images.open(self.files, channels=images.shape[3], value_range=value_range)
        _save(Images(np.concatenate([originals, images])), self.out, len(self.files))
        print(f"{self.out}: {len(self.files)} originals above what {self.model} made of them")


class Models(_ClientVerb):
    """List a server's models."""

    def cli_cmd(self) -> None:
        """Print a table, and below it why versions cannot be used."""
        console = Console()
        table = Table("name", "family", "default", "versions", "size", "labels")
        with self.client() as client:
            models = client.models()
            for model in models:
                known = client.model(model.name).manifest if model.default_version else manifest_pb2.Manifest()
                table.add_row(model.name, model.family, model.default_version, *_columns(model, known))
        console.print(table if models else f"{self.address} holds no models")
        for model in models:
            for version in model.versions:
                if version.reason:
                    console.print(
                        f"{model.name} version {version.version}: {version.reason}",
                        markup=False,
                        highlight=False,
                        soft_wrap=True,
                    )


def check_writable(out: Path) -> None:
    """Find out before anything is drawn that nothing could be saved.

    Raises: OSError, if `out` or the folder that it would be in cannot be written.
    """
    folder = out.parent if out.suffix else out
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is a file, allowed is a folder", str(there))
    if out.suffix and out.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, allowed is a file", str(out))
    for path in (there, out) if out.exists() else (there,):
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "may not be written by this user", str(path))


def _save(images: Images, out: Path, columns: int | None) -> None:
    try:
        images.save(out, columns)
    except ValueError as error:  # Pillow's for pictures that a format cannot hold
        raise NotSaved(f"{out}: {error}" if str(out) not in str(error) else str(error)) from error


def _columns(model: Model, manifest: manifest_pb2.Manifest) -> tuple[str, str, str]:
    versions = ", ".join(f"{version.version} {version.state}" for version in model.versions)
    size = f"{manifest.width}x{manifest.height} {'grey' if manifest.channels == 1 else 'RGB'}" if manifest.width else ""
    return versions, size, ", ".join(manifest.labels)


def _with_progress(pieces: Iterator[Images], count: int) -> Iterator[Images]:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:.0f} images/s"), TimeRemainingColumn())
    console = Console(stderr=True)
    disable = count < PROGRESS_IMAGES or not console.is_terminal
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=disable) as progress:
        task = progress.add_task("images", total=count, rate=0.0)
        done = 0
        for piece in pieces:
            done += len(piece)
            progress.update(task, completed=done, rate=done / (time.monotonic() - started))
            yield piece
