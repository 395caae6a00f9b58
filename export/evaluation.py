"""Judging runs and bundles: which images they are judged by, and where the figures go.

run folder or bundle -> Candidate -> Judge -> Scorecard -> quality.json, report.html; a bundle's manifest too
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.features import Features, InceptionFeatures
from evaluation.report import Column, write_report
from evaluation.scorecard import Judge, Scorecard
from evaluation.subject import Subject
from export.bundle import read_manifest, write_manifest
from export.errors import ExportError
from export.measure import images_per_s
from export.source import real
from export.subjects import ServedSubject, TrainedSubject
from figment.v1.manifest_pb2 import Manifest
from training.data import ImageSet
from training.errors import DataError
from training.model import Model
from training.run import read_provenance
from training.settings import TrainSettings
from training.sources import load
from training.trainer import load_images


@dataclass(frozen=True)
class Asked:
    """How to judge. data, test: real images in the place of those that the model was trained on, and held out."""

    data: str | None = None
    test: str | None = None
    images: int = 10_000
    inception: Path | None = None
    iwae_draws: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Candidate:
    """A model to be judged. settings: of its training; None where nothing is known of it. speed: in words."""

    path: Path
    subject: Subject
    settings: TrainSettings | None
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
        settings = TrainSettings.model_validate(read_provenance(path)["settings"])
        return Candidate(path, TrainedSubject(Model.load(path), path.resolve().name), settings)
    versions = [each for each in path.glob("*") if each.name.isdecimal() and (each / "manifest.json").is_file()]
    if versions:
        path = max(versions, key=lambda version: int(version.name))
    if not (path / "manifest.json").is_file():
        raise ExportError(f"{path} is neither a run folder (run.json) nor a model's version (manifest.json)")
    manifest = read_manifest(path)
    trained_by = manifest.provenance.settings
    rate = images_per_s([each for each in manifest.measured if each.threads == 1], "generator.onnx")
    return Candidate(
        path,
        ServedSubject(path, manifest),
        TrainSettings.model_validate_json(trained_by) if trained_by else None,
        f"{rate:.0f} images/s a core" if rate else "not measured; figment bench model --write",
        manifest,
    )


def judge_of(settings: TrainSettings | None, asked: Asked) -> Judge:
    """The judge by the images of a training, or by others that were asked for.

    Raises: ExportError, if there are none, or no Inception in the file.
    """
    try:
        seen, held_out = _images(settings, asked)
    except DataError as error:
        raise ExportError(f"quality is measured against real images; --data tells where they are: {error}") from error
    try:
        extractor: Features | None = InceptionFeatures(asked.inception) if asked.inception else None
    except ValueError as error:
        raise ExportError(f"inception: {error}") from error
    return Judge(real(seen), real(held_out), extractor, asked.images, asked.seed)


def evaluate(path: Path, out: Path | None, asked: Asked) -> tuple[Scorecard, Path]:
    """Judge what is at `path`, and write quality.json and report.html; into a bundle's manifest too.

    out: by default the run folder, or for a bundle report-<model>. Returns the figures and the report.
    Raises: ExportError, RunFolderError.
    """
    judged = candidate(path)
    judge = judge_of(judged.settings, asked)
    card = _score(judge, judged, asked)
    if manifest := judged.manifest:
        manifest.quality.update(card.figures)
        manifest.judged_by = judge.judged_by
        write_manifest(manifest, judged.path)
    default = Path(f"report-{manifest.name}") if manifest else path
    return card, write_report(out or default, [_column(card, judged)], judge)


def compare(paths: Sequence[Path], out: Path, asked: Asked) -> tuple[list[Scorecard], Path]:
    """Judge several by the images of the first, side by side. Raises: ExportError, RunFolderError."""
    judged = [candidate(path) for path in paths]
    judge = judge_of(judged[0].settings, asked)
    cards = [_score(judge, each, asked) for each in judged]
    columns = [_column(card, each) for card, each in zip(cards, judged, strict=True)]
    return cards, write_report(out, columns, judge)


def _score(judge: Judge, judged: Candidate, asked: Asked) -> Scorecard:
    try:
        return judge.score(judged.subject, asked.iwae_draws)
    except ValueError as error:
        raise ExportError(f"{judged.path} cannot be judged by these images: {error}") from error


def _column(card: Scorecard, judged: Candidate) -> Column:
    return Column(card, {"training": judged.stability, "speed": judged.speed})


def _images(settings: TrainSettings | None, asked: Asked) -> tuple[ImageSet, ImageSet]:
    if settings is None and asked.data is None:
        raise DataError("nothing is known of what the model was trained on")
    if settings is None or asked.data is not None:
        size = settings.size if settings else None
        seen, held_out = load(asked.data or "", size).split(0.2, asked.seed)
    else:
        seen, held_out = load_images(settings)
    return seen, load(asked.test, settings.size if settings else None) if asked.test else held_out
