"""The run folder: everything a training run leaves behind.

    run.json                            settings, data facts, package versions; written first
    stats.jsonl                         one line a report: images shown, images/s, each loss
    samples-<images>.png                a sheet of fixed noise, the same all through the run
    reconstructions-<images>.png        held-out originals above theirs, where there is an encoder
    checkpoint.safetensors              where to continue, until the run is finished
    tensorboard/                        losses and sheets, if asked for
    model.json, weights.safetensors     the averaged model

The last are written last: a folder that holds a model is a finished run.
"""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from figment_client.images import Images
from training import checkpoint
from training.data import ImageSet, pixels_to_bytes
from training.errors import RunFolderError, TrainingError
from training.model import Model
from training.settings import TrainSettings

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SHEET_IMAGES = 64


class Run:
    """One run folder that is being written, by the first of the processes that train; the others' leaves no trace."""

    def __init__(self, settings: TrainSettings, held_out: ImageSet, is_writing: bool) -> None:
        self.folder = settings.out
        self._every = settings.sheet_every
        self._images = settings.images
        self._held_out = held_out
        self._is_writing = is_writing
        self._sheets = 0
        self._board = _board(self.folder / "tensorboard") if settings.tensorboard and is_writing else None

    @classmethod
    def create(cls, settings: TrainSettings, seen: ImageSet, held_out: ImageSet, is_writing: bool = True) -> Self:
        """Make the folder.

        Raises: RunFolderError, if it holds a run already.
        """
        if is_writing:
            folder = settings.out
            if (folder / "run.json").exists():
                unfinished = "; figment resume continues it" if (folder / checkpoint.FILE).exists() else ""
                raise RunFolderError(
                    f"out: {folder} holds a run already; choose another folder or remove it{unfinished}"
                )
            folder.mkdir(parents=True, exist_ok=True)
            run = cls(settings, held_out, is_writing)  # before run.json: what fails here leaves the folder free
            (folder / "stats.jsonl").write_text("")
            record = {"settings": settings.model_dump(mode="json"), **_provenance(seen, held_out)}
            (folder / "run.json").write_text(json.dumps(record, indent=2) + "\n")
            return run
        return cls(settings, held_out, is_writing)

    @classmethod
    def reopen(cls, settings: TrainSettings, seen: ImageSet, held_out: ImageSet, is_writing: bool = True) -> Self:
        """The folder of a run that was stopped.

        Raises: RunFolderError, if the images are not those that it began with.
        """
        began, now = read_provenance(settings.out)["data"], _provenance(seen, held_out)["data"]
        if began != now:
            raise RunFolderError(
                f"data: {settings.data} has changed since {settings.out} was begun: {began} then, {now} now"
            )
        return cls(settings, held_out, is_writing)

    def forget_after(self, images: int) -> None:
        """Take out what was written after the checkpoint that the run continues from."""
        self._sheets = images // self._every
        if self._is_writing:
            file = self.folder / "stats.jsonl"
            lines = file.read_text().splitlines(keepends=True)
            whole = (line for line in lines if line.endswith("\n"))  # the last may have been cut off
            file.write_text("".join(line for line in whole if json.loads(line)["images"] <= images))

    def write_stats(self, images: int, images_per_s: float, losses: dict[str, float]) -> None:
        """Append one line to stats.jsonl."""
        if self._is_writing:
            line = {"images": images, "images_per_s": round(images_per_s, 1), **losses}
            with (self.folder / "stats.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        if self._board:
            for name, value in line.items():
                self._board.add_scalar(name, value, images)
            self._board.flush()

    def draw_sheets_if_due(self, images: int, model: Model) -> None:
        """Draw sheets once in every so many images; the last are left to `finish`."""
        if images // self._every > self._sheets and images < self._images:
            self._sheets = images // self._every
            self._draw_sheets(images, model)

    def finish(self, model: Model) -> None:
        """Draw the last sheets and write the model; the checkpoint has done its work."""
        self._draw_sheets(self._images, model)
        if self._is_writing:
            model.save(self.folder)
            (self.folder / checkpoint.FILE).unlink(missing_ok=True)
        if self._board:
            self._board.close()

    @torch.inference_mode()
    def _draw_sheets(self, images: int, model: Model) -> None:
        if not self._is_writing:
            return
        device = next(model.parameters()).device
        labels = len(model.label_names)
        noise = torch.randn(SHEET_IMAGES, model.noise_dim, generator=torch.Generator().manual_seed(0)).to(device)
        label = torch.arange(SHEET_IMAGES, device=device) % labels if labels else None
        self._write(Images(pixels_to_bytes(model.generate(noise, label))), "samples", images)
        if model.encoder:
            rows = slice(0, SHEET_IMAGES // 4)
            classes = self._held_out.classes(rows)
            label = classes.to(device) if labels and classes is not None else None
            originals = self._held_out.pixels(rows)
            mean, _ = model.encoder(originals.to(device), label)
            pair = np.concatenate([pixels_to_bytes(originals), pixels_to_bytes(model.generator(mean, label))])
            self._write(Images(pair), "reconstructions", images, columns=len(mean))

    def _write(self, sheet: Images, name: str, images: int, columns: int | None = None) -> None:
        sheet.save(self.folder / f"{name}-{images:09d}.png", columns=columns)
        if self._board:
            picture = np.asarray(sheet.grid(columns=columns).convert("RGB"))
            self._board.add_image(name, picture, images, dataformats="HWC")


def read_provenance(folder: Path) -> dict[str, Any]:
    """run.json of a run.

    Raises: RunFolderError, if it is missing or is not JSON.
    """
    try:
        record: dict[str, Any] = json.loads((folder / "run.json").read_text())
    except FileNotFoundError:
        raise RunFolderError(f"{folder} is not a run: run.json is missing") from None
    except ValueError as error:
        raise RunFolderError(f"{folder}/run.json is not JSON: {error}") from None
    return record


def split_sha256(seen: ImageSet, held_out: ImageSet) -> str:
    """What images and their split are known by."""
    return hashlib.sha256((seen.digest() + held_out.digest()).encode()).hexdigest()


def _provenance(seen: ImageSet, held_out: ImageSet) -> dict[str, Any]:
    packages = {name: version(name) for name in ("torch", "numpy", "scikit-learn", "pillow")}
    return {
        "data": {"images": len(seen), "held_out": len(held_out), "sha256": split_sha256(seen, held_out)},
        "versions": {"python": platform.python_version(), **packages},
    }


def _board(folder: Path) -> "SummaryWriter":
    """Raises: TrainingError, if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise TrainingError("tensorboard is not installed: pip install 'figment[tensorboard]'") from None
    return SummaryWriter(str(folder))
