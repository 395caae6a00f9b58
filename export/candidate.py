"""A model to be judged, and what is known of its training.

    run folder | version folder | model's folder -> Candidate

A run tells of its training itself, a bundle by its manifest.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from evaluation.subject import Subject
from export.bundle import read_manifest, versions
from export.errors import ExportError
from export.measure import images_per_s
from export.subjects import ServedSubject, TrainedSubject
from figment.v1.manifest_pb2 import Manifest
from training.record import read_run
from training.settings import TrainSettings


@dataclass(frozen=True)
class Candidate:
    """A model to be judged.

    size          height and width of its images in pixels
    settings      of its training; None where nothing is known of it
    data_sha256   of the images that it was trained on and those held out; "" where nothing is known of them
    speed         in words
    """

    path: Path
    subject: Subject
    size: int
    settings: TrainSettings | None
    data_sha256: str
    speed: str = "not measured"
    manifest: Manifest | None = None
    """Of a bundle."""

    @property
    def stability(self) -> str:
        """What is known of the training: a loss that is not finite would have ended it."""
        return f"finite over {self.settings.images:,} images" if self.settings else "unknown"


def candidate(path: Path) -> Candidate:
    """A finished run, a version of a model, or of a model's folder the highest version.

    Raises: ExportError, RunFolderError.
    """
    if (path / "run.json").is_file():
        model, record = read_run(path)
        subject = TrainedSubject(model, path.resolve().name)
        return Candidate(path, subject, model.architecture.size, record.settings, record.data.sha256)
    if published := versions(path):
        path = path / str(published[-1])
    if not (path / "manifest.json").is_file():
        raise ExportError(f"{path} is neither a run folder (run.json) nor a model's version (manifest.json)")
    manifest = read_manifest(path)
    trained_by = manifest.provenance.settings
    rate = images_per_s([each for each in manifest.measured if each.threads == 1], "generator.onnx")
    return Candidate(
        path,
        ServedSubject(path, manifest),
        manifest.height,
        _settings(path, trained_by) if trained_by else None,
        manifest.provenance.data_sha256,
        f"{rate:.0f} images/s a core" if rate else "not measured; figment bench model --write",
        manifest,
    )


def _settings(path: Path, record: str) -> TrainSettings:
    try:
        return TrainSettings.model_validate_json(record)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = ".".join(str(part) for part in wrong["loc"])
        raise ExportError(f"{path}: the training's settings are not of this version: {name}: {wrong['msg']}") from error
