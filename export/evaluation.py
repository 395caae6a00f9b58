"""Judging runs and bundles: which images they are judged by, and where the figures go.

    run folder or bundle -> Candidate -> Judge -> Scorecard -> quality.json, report.html; a bundle's manifest too

The images are those of the (first) model's training, split as they were for it, unless others are asked for.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.features import Features, InceptionFeatures
from evaluation.report import Column, write_report
from evaluation.scorecard import IMAGES, Judge, Scorecard
from export.bundle import write_manifest
from export.candidate import Candidate, candidate
from export.errors import ExportError
from export.foreign import HELD_OUT
from export.source import real
from training.data import ImageSet
from training.errors import DataError
from training.record import split_sha256
from training.sources import load
from training.trainer import load_images


@dataclass(frozen=True)
class Asked:
    """How to judge. data, test: real images in the place of those that the model was trained on, and held out."""

    data: str | None = None
    test: str | None = None
    images: int = IMAGES
    inception: Path | None = None
    iwae_draws: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Reals:
    """Real images to judge by. sha256: of these, as a run has it of its own; test: what was held out instead, if any."""

    seen: ImageSet
    held_out: ImageSet
    data: str
    sha256: str
    test: str | None

    def tell(self, judged: Candidate) -> str:
        """Whether the model may have learned from what was held out."""
        if self.test:
            return f"{self.test}, as asked for"
        is_own = judged.data_sha256 == self.sha256
        return "not in its training" if is_own else "other data or another split: some may be of its training"


def evaluate(path: Path, out: Path | None, asked: Asked) -> tuple[Scorecard, Path]:
    """Judge what is at `path`, and write quality.json and report.html; into a bundle's manifest too.

    out: by default the run folder, or for a bundle report-<model>. Returns the figures and the report.
    Raises: ExportError, RunFolderError.
    """
    judged = candidate(path)
    manifest = judged.manifest
    default = Path(f"report-{manifest.name}") if manifest else path
    cards, judge, page = _report([judged], out or default, asked)
    if manifest:
        manifest.quality.clear()  # what another judge said before is not by this one
        manifest.quality.update(cards[0].figures)
        manifest.judged_by = judge.judged_by
        write_manifest(manifest, judged.path)
    return cards[0], page


def compare(paths: Sequence[Path], out: Path, asked: Asked) -> tuple[list[Scorecard], Path]:
    """Judge several by the images of the first, side by side. Raises: ExportError, RunFolderError."""
    judged = [candidate(path) for path in paths]
    places = Counter(each.path.resolve() for each in judged)
    if twice := [str(place) for place, count in places.items() if count > 1]:
        raise ExportError(f"models: {', '.join(twice)} is given more than once")
    names = Counter(each.subject.name for each in judged)
    for each in judged:
        if names[each.subject.name] > 1:
            each.subject.name = str(each.path)
    cards, _, page = _report(judged, out, asked)
    return cards, page


def _report(judged: Sequence[Candidate], out: Path, asked: Asked) -> tuple[list[Scorecard], Judge, Path]:
    """Judge all by the images of the first, and write the report."""
    reals = _reals(judged[0], asked)
    judge = _judge(reals, asked)
    cards = [_score(judge, each, asked) for each in judged]
    columns = [
        Column(card, {"training": each.stability, "held_out": reals.tell(each), "speed": each.speed})
        for card, each in zip(cards, judged, strict=True)
    ]
    known_by = {"data": reals.data, "sha256": reals.sha256, "test": reals.test}
    return cards, judge, write_report(out, columns, judge, known_by)


def _judge(reals: Reals, asked: Asked) -> Judge:
    try:
        extractor: Features | None = InceptionFeatures(asked.inception) if asked.inception else None
    except ValueError as error:
        raise ExportError(f"inception: {error}") from error
    return Judge(real(reals.seen), real(reals.held_out), extractor, asked.images, asked.seed)


def _score(judge: Judge, judged: Candidate, asked: Asked) -> Scorecard:
    try:
        return judge.score(judged.subject, asked.iwae_draws)
    except ValueError as error:
        raise ExportError(f"{judged.path} cannot be judged by these images: {error}") from error


def _reals(judged: Candidate, asked: Asked) -> Reals:
    """The images of a training and its split, or others that were asked for. Raises: ExportError, if there are none."""
    try:
        return _loaded(judged, asked)
    except DataError as error:
        raise ExportError(f"quality is measured against real images; --data tells where they are: {error}") from error


def _loaded(judged: Candidate, asked: Asked) -> Reals:
    settings = judged.settings
    if settings:
        if asked.data is not None:  # which may be the training's, moved: so they are split and made as there
            settings = settings.model_copy(update={"data": asked.data, "size": judged.size})
        seen, held_out = load_images(settings)
        data = settings.data
    elif asked.data is not None:
        seen, held_out = load(asked.data, judged.size).split(HELD_OUT, seed=0)
        data = asked.data
    else:
        raise DataError("nothing is known of what the model was trained on")
    sha256 = split_sha256(seen, held_out)
    if asked.test is not None:
        held_out = _test(asked.test, judged)
        if held_out.shape != seen.shape:
            raise ExportError(f"test: {asked.test} has images of {held_out.shape}, {data} of {seen.shape}")
        if seen.label_names and held_out.label_names != seen.label_names[: len(held_out.label_names)]:
            raise ExportError(f"test: {asked.test} has other classes than {data}")
    return Reals(seen, held_out, data, sha256, asked.test)


def _test(test: str, judged: Candidate) -> ImageSet:
    """Held-out images, made as those of the training were."""
    settings = judged.settings
    if settings is None:
        return load(test, judged.size)
    images = load(test, judged.size, settings.skip_broken, settings.cache, value_range=settings.value_range)
    return images.binarised(settings.seed) if settings.binarise else images
