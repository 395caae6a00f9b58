"""Evaluation of runs and bundles: which real images they are compared with, and where the figures go.

    run folder or bundle -> Entry -> Evaluator -> Scorecard -> quality.json, report.html; a bundle's manifest too

The images are those of the (first) model's training, split as they were for it, unless the settings name others.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field

from evaluation.features import Features, InceptionFeatures
from evaluation.reference import IMAGES
from evaluation.report import Column, write_report
from evaluation.scorecard import Evaluator, Scorecard
from export.bundle import write_manifest
from export.entry import Entry, read_entry
from export.errors import ExportError
from export.source import HELD_OUT, NO_DATA, real_images
from training.data import ImageSet
from training.errors import DataError
from training.record import split_sha256
from training.sources import load
from training.trainer import load_images


class EvaluationSettings(BaseModel, frozen=True):
    """How to evaluate: options of the verbs that do."""

    data: str | None = Field(None, description="real images to judge by; by default what the model was trained on")
    test: str | None = Field(
        None, description="images that the model has not seen; by default those held out of the training"
    )
    images: int = Field(IMAGES, ge=16, description="images to draw, and real ones to compare them with")
    inception: Path | None = Field(
        None, description="TorchScript file of Inception weights; the distance is then the FID"
    )
    iwae_draws: int = Field(0, ge=0, description="draws of the bound on log p(x), of runs only; 0 leaves it out")
    seed: int = Field(0, ge=0, description="decides what is drawn")


@dataclass(frozen=True)
class ReferenceImages:
    """Real images to compare with. sha256: of these, as a run has it of its own; test: what was held out instead, if any."""

    seen: ImageSet
    held_out: ImageSet
    data: str
    sha256: str
    test: str | None

    def held_out_from(self, entry: Entry) -> str:
        """Whether the model may have learned from what was held out, in words."""
        if self.test:
            return f"{self.test}, as asked for"
        is_own = entry.data_sha256 == self.sha256
        return "not in its training" if is_own else "other data or another split: some may be of its training"


def evaluate(
    path: Path, out: Path | None, settings: EvaluationSettings, tell: Callable[[str], None] = lambda note: None
) -> tuple[Scorecard, Path]:
    """Evaluate what is at `path`, and write quality.json and report.html; into a bundle's manifest too.

    out: by default the run folder, or for a bundle report-<model>. tell: of an unfinished run. Returns the figures and the
    report.
    Raises: ExportError, RunFolderError.
    """
    entry = _read(path, tell)
    manifest = entry.manifest
    default = Path(f"report-{manifest.name}") if manifest else path
    cards, evaluator, page = _report([entry], out or default, settings)
    if manifest:
        manifest.quality.clear()  # figures by other features or images cannot stand beside these
        manifest.quality.update(cards[0].figures)
        manifest.judged_by = evaluator.judged_by
        write_manifest(manifest, entry.path)
    return cards[0], page


def compare(
    paths: Sequence[Path], out: Path, settings: EvaluationSettings, tell: Callable[[str], None] = lambda note: None
) -> tuple[list[Scorecard], Path]:
    """Evaluate several by the images of the first, side by side. Raises: ExportError, RunFolderError."""
    entries = [_read(path, tell) for path in paths]
    places = Counter(entry.path.resolve() for entry in entries)
    if repeated := [str(place) for place, count in places.items() if count > 1]:
        raise ExportError(f"models: {', '.join(repeated)} is given more than once")
    names = Counter(entry.model.name for entry in entries)
    for entry in entries:
        if names[entry.model.name] > 1:
            entry.model.name = str(entry.path)
    cards, _, page = _report(entries, out, settings)
    return cards, page


def _read(path: Path, tell: Callable[[str], None]) -> Entry:
    entry = read_entry(path)
    if entry.note:
        tell(entry.note)
    return entry


def _report(
    entries: Sequence[Entry], out: Path, settings: EvaluationSettings
) -> tuple[list[Scorecard], Evaluator, Path]:
    """Score all by the images of the first, and write the report."""
    reference = _reference_images(entries[0], settings)
    evaluator = _evaluator(reference, settings)
    cards = [_score(evaluator, entry, settings) for entry in entries]
    columns = [
        Column(card, {"training": entry.stability, "held_out": reference.held_out_from(entry), "speed": entry.speed})
        for card, entry in zip(cards, entries, strict=True)
    ]
    origin = {"data": reference.data, "sha256": reference.sha256, "test": reference.test}
    return cards, evaluator, write_report(out, columns, evaluator, origin)


def _evaluator(reference: ReferenceImages, settings: EvaluationSettings) -> Evaluator:
    try:
        extractor: Features | None = InceptionFeatures(settings.inception) if settings.inception else None
    except ValueError as error:
        raise ExportError(f"inception: {error}") from error
    sets = real_images(reference.seen), real_images(reference.held_out)
    return Evaluator(*sets, extractor, settings.images, settings.seed)


def _score(evaluator: Evaluator, entry: Entry, settings: EvaluationSettings) -> Scorecard:
    try:
        return evaluator.score(entry.model, settings.iwae_draws)
    except ValueError as error:
        raise ExportError(f"{entry.path} cannot be judged by these images: {error}") from error


def _reference_images(entry: Entry, settings: EvaluationSettings) -> ReferenceImages:
    """The images of a training and its split, or others that the settings name. Raises: ExportError, if there are none."""
    try:
        seen, held_out, data = _training_images(entry, settings.data)
        sha256 = split_sha256(seen, held_out)
        if settings.test is not None:
            held_out = _test_images(settings.test, entry)
    except DataError as error:
        raise ExportError(f"{NO_DATA}: {error}") from error
    if settings.test is not None:
        if held_out.shape != seen.shape:
            raise ExportError(f"test: {settings.test} has images of {held_out.shape}, {data} of {seen.shape}")
        if seen.label_names and held_out.label_names != seen.label_names[: len(held_out.label_names)]:
            raise ExportError(f"test: {settings.test} has other classes than {data}")
    return ReferenceImages(seen, held_out, data, sha256, settings.test)


def _training_images(entry: Entry, data: str | None) -> tuple[ImageSet, ImageSet, str]:
    """Images seen and held out, and where they come from."""
    trained = entry.settings
    if trained:
        if data is not None:  # which may be the training's, moved: so they are split and made as there
            trained = trained.model_copy(update={"data": data, "size": entry.size})
        return *load_images(trained), trained.data
    if data is None:
        raise DataError("nothing is known of what the model was trained on")
    return *load(data, entry.size).split(HELD_OUT, seed=0), data


def _test_images(test: str, entry: Entry) -> ImageSet:
    """Held-out images, made as those of the training were."""
    trained = entry.settings
    if trained is None:
        return load(test, entry.size)
    images = load(test, entry.size, trained.skip_broken, trained.cache, value_range=trained.value_range)
    return images.binarised(trained.seed) if trained.binarise else images
