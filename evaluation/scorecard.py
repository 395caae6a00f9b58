"""A model's quality figures and the images behind them, and the evaluator that makes them.

    EvaluatedModel -> Evaluator.score -> Outputs -> each of FIGURES -> Scorecard

Distances and neighbourhoods are taken between drawn images and as many of those that a model may have seen; blur,
reconstructions and latents by the images held out. Knows neither runs nor bundles.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import numpy.typing as npt

from evaluation.figures import FIGURES, LATENT_STRUCTURE, Figure
from evaluation.model import EvaluatedModel, Images
from evaluation.outputs import STEPS, Outputs
from evaluation.reference import Reference
from evaluation.spectrum import Spectrum, power_spectrum

SAMPLES_SHOWN = 64
PAIRS_SHOWN = 16
PATHS_SHOWN = 8
NEAREST_SHOWN = 16


@dataclass(frozen=True)
class Pictures:
    """What a report shows: uint8 images (N, H, W, C), and plots' data."""

    samples: Images
    originals: Images | None
    reconstructions: Images | None
    paths: Images
    """(rows * STEPS, H, W, C), row by row."""
    spectrum: Spectrum
    class_counts: npt.NDArray[np.int64] | None
    copies: tuple[Images, Images] | None = None
    """The samples nearest to training images, the nearest one first, and these training images; None of grey ones."""


@dataclass(frozen=True)
class Scorecard:
    """figures: by key, as docs/quality.md explains them. absence: why some are not there, where that can be changed."""

    name: str
    family: str
    figures: dict[str, float]
    pictures: Pictures = field(repr=False)
    absence: str | None = None


class Evaluator(Reference):
    """Scores models by one set of real images."""

    def score(self, model: EvaluatedModel, draws: int = 0) -> Scorecard:
        """Every figure that applies to `model`; draws: of importance sampling, 0 leaves the bound out.

        Raises: ValueError, if its images are of another shape than the real ones, or its labels of other classes.
        """
        outputs = Outputs(model, self, draws)
        figures = _computed(chain(*FIGURES.values()), outputs)
        return Scorecard(model.name, model.family, figures, _pictures(outputs), self.absence)

    def score_samples(self, model: EvaluatedModel) -> dict[str, float]:
        """The figures that need samples only, at a fraction of the time of `score`."""
        of_samples = (figures for group, figures in FIGURES.items() if group != LATENT_STRUCTURE)
        return _computed(chain(*of_samples), Outputs(model, self))

    def draw(self, model: EvaluatedModel) -> Images:
        """The images that figures are computed of: `images`, the same noise for every model of one noise_dim."""
        return Outputs(model, self).drawn


def _computed(figures: Iterable[Figure], outputs: Outputs) -> dict[str, float]:
    """Those of `figures` that apply, by key."""
    values = ((figure.key, figure.compute(outputs)) for figure in figures)
    return {key: value for key, value in values if value is not None}


def _pictures(outputs: Outputs) -> Pictures:
    originals, reconstructions = outputs.reconstructions or (None, None)
    counts = None
    if outputs.classes is not None:
        counts = np.bincount(outputs.classes, minlength=len(outputs.reference.seen.label_names))
    return Pictures(
        outputs.drawn[:SAMPLES_SHOWN],
        originals if originals is None else originals[:PAIRS_SHOWN],
        reconstructions if reconstructions is None else reconstructions[:PAIRS_SHOWN],
        outputs.paths[: PATHS_SHOWN * STEPS],
        power_spectrum(outputs.drawn),
        counts,
        _copies(outputs),
    )


def _copies(outputs: Outputs) -> tuple[Images, Images] | None:
    if outputs.nearest is None:
        return None
    first = outputs.nearest.distances.argsort(kind="stable")[:NEAREST_SHOWN]
    return outputs.drawn[first], outputs.reference.seen.images[outputs.nearest.rows[first]]
