"""One entry of an evaluation or a comparison: a model under evaluation, and what is known of its training.

    run folder | version folder | model's folder -> Entry

A run tells of its training itself, a bundle by its manifest.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from evaluation.model import EvaluatedModel
from export.bundle import read_manifest, versions
from export.errors import ExportError
from export.evaluated_models import ServedModel, TrainedModel
from export.measure import images_per_s
from figment.v1.manifest_pb2 import Manifest
from training.outcome import read_run
from training.settings import TrainSettings


@dataclass(frozen=True)
class Entry:
    """A model under evaluation and its origin.

    size          height and width of its images in pixels
    settings      of its training; None where nothing is known of it
    data_sha256   of the images that it was trained on and those held out; "" where nothing is known of them
    speed         in words
    manifest      of a bundle
    length        of its training so far, in words; "" where the settings tell
    note          what a person should know of it; "" where there is nothing to tell
    """

    path: Path
    model: EvaluatedModel
    size: int
    settings: TrainSettings | None
    data_sha256: str
    speed: str = "not measured"
    manifest: Manifest | None = None
    length: str = ""
    note: str = ""

    @property
    def stability(self) -> str:
        """What is known of the training: a loss that is not finite would have ended it."""
        if self.settings is None:
            return "unknown"
        whole = f"{self.settings.images:,} images"
        if self.settings.minutes is not None:
            whole = f"{self.settings.minutes:g} minutes"
        return f"finite over {self.length or whole}"


def read_entry(path: Path) -> Entry:
    """A run, finished or not, a version of a model, or of a model's folder the highest version.

    Raises: ExportError, RunFolderError.
    """
    if (path / "run.json").is_file():
        run = read_run(path)
        return Entry(
            path,
            TrainedModel(run.model, path.resolve().name),
            run.model.architecture.size,
            run.record.settings,
            run.record.data.sha256,
            length=run.so_far,
            note=run.note,
        )
    if published := versions(path):
        path = path / str(published[-1])
    if not (path / "manifest.json").is_file():
        raise ExportError(f"{path} is neither a run folder (run.json) nor a model's version (manifest.json)")
    manifest = read_manifest(path)
    rate = images_per_s([each for each in manifest.measured if each.threads == 1], "generator.onnx")
    return Entry(
        path,
        ServedModel(path, manifest),
        manifest.height,
        _settings(path, manifest.provenance.settings),
        manifest.provenance.data_sha256,
        f"{rate:.0f} images/s a core" if rate else "not measured; figment bench model --write",
        manifest,
        f"{manifest.provenance.images:,} images",
    )


def _settings(path: Path, record: str) -> TrainSettings | None:
    """Of a training's record in JSON; None where it is empty."""
    try:
        return TrainSettings.model_validate_json(record) if record else None
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ExportError(f"{path}: the training's settings are not of this version: {name}: {first['msg']}") from error
