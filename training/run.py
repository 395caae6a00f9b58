"""The run folder: everything a training run leaves behind.

    stats.jsonl                         one line a report: images shown, images/s, each loss
    samples-<images>.png                a sheet of fixed noise, the same all through the run
    reconstructions-<images>.png        held-out originals above theirs, where there is an encoder
    run.json                            settings, data facts, package versions
    model.json, weights.safetensors     the averaged model

The last two are written last: a folder that holds both is a finished run.
"""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from figment_client.images import Images
from training.data import ImageSet, pixels_to_bytes
from training.errors import RunFolderError
from training.model import Model
from training.settings import TrainSettings

SHEETS = 8
"""Sheets drawn over a run, evenly spaced."""

SHEET_IMAGES = 64


class Run:
    """One run folder that is being written."""

    def __init__(self, folder: Path, settings: TrainSettings) -> None:
        self.folder = folder
        self._settings = settings
        self._sheets = 0

    @classmethod
    def create(cls, settings: TrainSettings) -> Self:
        """Make the folder.

        Raises: RunFolderError, if it holds a run already.
        """
        folder = settings.out
        if (folder / "stats.jsonl").exists() or (folder / "model.json").exists():
            raise RunFolderError(f"out: {folder} holds a run already; choose another folder or remove it")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stats.jsonl").touch()
        return cls(folder, settings)

    def write_stats(self, images: int, images_per_s: float, losses: dict[str, float]) -> None:
        """Append one line to stats.jsonl."""
        line = {"images": images, "images_per_s": round(images_per_s, 1), **losses}
        with (self.folder / "stats.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def draw_sheets_if_due(self, images: int, model: Model, held_out: ImageSet) -> None:
        """Draw sheets when the next of SHEETS equal parts of the training is done; the last are left to `finish`."""
        part = images * SHEETS // self._settings.images
        if self._sheets < part < SHEETS:
            self._sheets = part
            self._draw_sheets(images, model, held_out)

    def finish(self, model: Model, seen: ImageSet, held_out: ImageSet) -> None:
        """Draw the last sheets, write run.json and the model."""
        self._draw_sheets(self._settings.images, model, held_out)
        record = {"settings": self._settings.model_dump(mode="json"), **_provenance(seen, held_out)}
        (self.folder / "run.json").write_text(json.dumps(record, indent=2) + "\n")
        model.save(self.folder)

    @torch.inference_mode()
    def _draw_sheets(self, images: int, model: Model, held_out: ImageSet) -> None:
        device = next(model.parameters()).device
        labels = len(model.label_names)
        noise = torch.randn(SHEET_IMAGES, model.noise_dim, generator=torch.Generator().manual_seed(0)).to(device)
        label = torch.arange(SHEET_IMAGES, device=device) % labels if labels else None
        Images(pixels_to_bytes(model.generate(noise, label))).save(self.folder / f"samples-{images:09d}.png")
        if model.encoder:
            rows = slice(0, SHEET_IMAGES // 4)
            classes = held_out.classes(rows)
            label = classes.to(device) if labels and classes is not None else None
            mean, _ = model.encoder(held_out.pixels(rows).to(device), label)
            pair = np.concatenate([held_out.images[rows], pixels_to_bytes(model.generator(mean, label))])
            Images(pair).save(self.folder / f"reconstructions-{images:09d}.png", columns=len(mean))


def read_provenance(folder: Path) -> dict[str, Any]:
    """run.json of a finished run.

    Raises: RunFolderError, if it is missing or is not JSON.
    """
    try:
        record: dict[str, Any] = json.loads((folder / "run.json").read_text())
    except FileNotFoundError:
        raise RunFolderError(f"{folder} is not a finished run: run.json is missing") from None
    except ValueError as error:
        raise RunFolderError(f"{folder}/run.json is not JSON: {error}") from None
    return record


def _provenance(seen: ImageSet, held_out: ImageSet) -> dict[str, Any]:
    digest = hashlib.sha256(seen.images.tobytes() + held_out.images.tobytes()).hexdigest()
    packages = {name: version(name) for name in ("torch", "numpy", "scikit-learn", "pillow")}
    return {
        "data": {"images": len(seen), "held_out": len(held_out), "sha256": digest},
        "versions": {"python": platform.python_version(), **packages},
    }
