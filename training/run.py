"""The run folder: everything a training run leaves behind.

    run.json                            settings, data facts, package versions; written first
    stats.jsonl                         one line a report: images shown, images/s, each loss; and one where samples are judged
    samples-<images>.png                a sample grid of fixed noise, the same all through the run
    reconstructions-<images>.png        held-out originals above theirs, where there is an encoder
    checkpoint.safetensors              where to continue, until the run is finished
    tensorboard/                        losses and sample grids, if asked for
    model.json, weights.safetensors     the averaged model

The last are written last: a folder that holds a model is a finished run.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from figment.images import Images
from training import checkpoint, record
from training.data import ImageSet, pixels_to_bytes
from training.errors import RunFolderError, TrainingError
from training.model import Model
from training.schedule import PhaseName
from training.settings import TrainSettings

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

GRID_IMAGES = 64


class Run:
    """One run folder that is being written, by the first of the processes that train; the others' leaves no trace."""

    def __init__(self, settings: TrainSettings, held_out: ImageSet, is_writing: bool) -> None:
        self.folder = settings.out
        self._every = settings.sheet_every
        self._images = settings.images if settings.minutes is None else None
        self._held_out = held_out
        self._is_writing = is_writing
        self._grids = 0
        self.threads: dict[PhaseName, int] = {}
        """As in the record: how many the run found its steps quickest by, by phase."""
        self._board = _board(self.folder / "tensorboard") if settings.tensorboard and is_writing else None

    @classmethod
    def create(cls, settings: TrainSettings, seen: ImageSet, held_out: ImageSet, is_writing: bool = True) -> Self:
        """Make the folder. Raises: RunFolderError, if it cannot be written."""
        if not is_writing:
            return cls(settings, held_out, is_writing)
        folder = settings.out
        with written(folder):
            folder.mkdir(parents=True, exist_ok=True)
            run = cls(settings, held_out, is_writing)  # before run.json: what fails here leaves the folder free
            (folder / "stats.jsonl").write_text("")
            begun = record.record_of(settings, seen, held_out)
            _replace(folder / record.FILE, begun.model_dump_json(indent=2) + "\n")
        return run

    @classmethod
    def reopen(cls, settings: TrainSettings, seen: ImageSet, held_out: ImageSet, is_writing: bool = True) -> Self:
        """The folder of a run that was stopped.

        Raises: RunFolderError, if the images are not those that it began with.
        """
        begun = record.read_record(settings.out)
        record.check_data(begun, seen, held_out, settings.out)
        run = cls(settings, held_out, is_writing)
        run.threads.update(begun.threads)
        return run

    def forget_after(self, images: int) -> None:
        """Take out what was written after the state that the run continues from."""
        self._grids = images // self._every
        if not self._is_writing:
            return
        file = self.folder / "stats.jsonl"
        with written(self.folder):
            lines = file.read_text().splitlines(keepends=True)
            whole = (line for line in lines if line.endswith("\n"))  # the last may have been cut off
            try:
                kept = [line for line in whole if json.loads(line)["images"] <= images]
            except (ValueError, KeyError, TypeError) as error:
                raise RunFolderError(f"{file}: a line is not one that a training wrote: {error}") from None
            _replace(file, "".join(kept))

    def keep_threads(self, phase: PhaseName, number: int) -> None:
        """Put down by how many threads a phase is computed."""
        self.threads[phase] = number
        if self._is_writing:
            with written(self.folder):
                begun = record.read_record(self.folder).model_copy(update={"threads": self.threads})
                _replace(self.folder / record.FILE, begun.model_dump_json(indent=2) + "\n")

    def write_stats(self, images: int, images_per_s: float, losses: dict[str, float]) -> None:
        """Append one line to stats.jsonl; losses: by name, or other figures."""
        if self._is_writing:
            line = {"images": images, "images_per_s": round(images_per_s, 1), **losses}
            with written(self.folder), (self.folder / "stats.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        if self._board:
            for name, value in line.items():
                self._board.add_scalar(name, value, images)
            self._board.flush()

    def has_grids_due(self, images: int) -> bool:
        """Once in every so many images; the last grids are left to `finish`."""
        return images // self._every > self._grids and (self._images is None or images < self._images)

    def draw_grids(self, images: int, model: Model) -> None:
        """Draw sample grids, and reconstructions where there is an encoder."""
        self._grids = images // self._every
        self._draw_grids(images, model)

    def finish(self, images: int, model: Model, kept: record.Kept | None = None) -> None:
        """Draw the last sample grids and write the model, in the record if it was kept; the checkpoint has done its work."""
        self._draw_grids(images, model)
        if self._is_writing:
            with written(self.folder):
                if kept:
                    done = record.read_record(self.folder).model_copy(update={"kept": kept})
                    _replace(self.folder / record.FILE, done.model_dump_json(indent=2) + "\n")
                model.save(self.folder)
                (self.folder / checkpoint.FILE).unlink(missing_ok=True)
        if self._board:
            self._board.close()

    def save(self, state: Mapping[str, Tensor]) -> None:
        """Write the checkpoint."""
        if self._is_writing:
            with written(self.folder):
                checkpoint.save(state, self.folder)

    @torch.inference_mode()
    def _draw_grids(self, images: int, model: Model) -> None:
        if not self._is_writing:
            return
        device = next(model.parameters()).device
        labels = len(model.label_names)
        noise = torch.randn(GRID_IMAGES, model.noise_dim, generator=torch.Generator().manual_seed(0)).to(device)
        label = torch.arange(GRID_IMAGES, device=device) % labels if labels else None
        self._write(Images(pixels_to_bytes(model.generate(noise, label))), "samples", images)
        if model.encoder:
            rows = slice(0, GRID_IMAGES // 4)
            classes = self._held_out.classes(rows)
            label = classes.to(device) if labels and classes is not None else None
            originals = self._held_out.pixels(rows)
            mean, _ = model.encoder(originals.to(device), label)
            pair = np.concatenate([pixels_to_bytes(originals), pixels_to_bytes(model.generator(mean, label))])
            self._write(Images(pair), "reconstructions", images, columns=len(mean))

    def _write(self, images_drawn: Images, name: str, images: int, columns: int | None = None) -> None:
        with written(self.folder):
            images_drawn.save(self.folder / f"{name}-{images:09d}.png", columns=columns)
        if self._board:
            picture = np.asarray(images_drawn.grid(columns=columns).convert("RGB"))
            self._board.add_image(name, picture, images, dataformats="HWC")


def check_free(folder: Path) -> None:
    """Before any work: whether a run can be begun in `folder`, which stays as it is.

    Raises: RunFolderError, if it holds a run already or cannot be written.
    """
    if (folder / record.FILE).exists():
        unfinished = "; figment resume continues it" if (folder / checkpoint.FILE).exists() else ""
        raise RunFolderError(f"out: {folder} holds a run already; choose another folder or remove it{unfinished}")
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
        for each in made:
            each.rmdir()


@contextmanager
def written(folder: Path) -> Iterator[None]:
    """Raises: RunFolderError, if what the block writes into `folder` cannot be written, as on a full disk."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        again = f"; once it can: figment resume {folder}" if (folder / checkpoint.FILE).is_file() else ""
        raise RunFolderError(f"out: {folder} cannot be written: {error}{again}") from error


def _replace(file: Path, text: str) -> None:
    """Write `file` whole: whoever is cut off leaves what was there."""
    temporary = file.with_name(f".{file.name}.writing")
    temporary.write_text(text)
    temporary.replace(file)


def _board(folder: Path) -> "SummaryWriter":
    """Raises: TrainingError, if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise TrainingError("tensorboard is not installed: pip install 'figment[tensorboard]'") from None
    return SummaryWriter(str(folder))
