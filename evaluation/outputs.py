"""What a model under evaluation draws, encodes and reconstructs, and what figures have in common of it.

    EvaluatedModel, Reference -> Outputs -> images, paths through the latent space, posteriors, reconstructions

Each part is computed when a figure or a picture first reads it, and kept. The same noise is drawn for every model.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from evaluation.authenticity import Nearest
from evaluation.classes import ClassHistogram, class_histogram
from evaluation.latents import PathSmoothness, path_smoothness
from evaluation.lattice import NeighbourEnergy, neighbour_energy
from evaluation.model import EvaluatedModel, Floats, Images, Labels
from evaluation.prdc import Prdc, prdc
from evaluation.pretrained import Judge
from evaluation.reference import RealImages, Reference

PATHS = 64
STEPS = 9
"""Paths through the latent space, and images on each, both ends included."""

BATCH = 250

Rows = TypeVar("Rows", Images, Floats)
Result = TypeVar("Result")


@dataclass
class Outputs:
    """Outputs of `model` for the noise and the images of `reference`.

    iwae_draws: of importance sampling; 0 leaves the bound out.

    Its parts raise ValueError, if images are of another shape than the real ones, or labels of other classes.
    """

    model: EvaluatedModel
    reference: Reference
    iwae_draws: int = 0
    _pretrained_features: dict[str, Floats] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def drawn(self) -> Images:
        """`reference.images` images, the same noise for every model of one noise_dim."""
        model = self.model

        def draw(noise: Floats, labels: Labels) -> Images:
            return model.decode(model.latent(noise, labels), labels)

        drawn = np.concatenate(list(_by_batch(draw, self._noise(self.reference.images), self._labels)))
        expected = self.reference.seen.images.shape[1:]
        if drawn.shape[1:] != expected:
            raise ValueError(f"images: {model.name} draws {drawn.shape[1:]}, real ones are {expected}")
        return drawn

    @cached_property
    def features(self) -> Floats:
        """(N, D) of the images drawn, by the extractor."""
        return self.reference.extractor(self.drawn)

    @cached_property
    def distances(self) -> dict[str, float]:
        """Frechet distances of the images drawn, by figure key."""
        return self.reference.distances([self.drawn])

    @cached_property
    def prdc(self) -> Prdc:
        """Precision, recall, density and coverage of the images drawn."""
        return prdc(self.reference.sample_features, self.features)

    def judged(self, name: str, distance: Callable[[Judge, Floats], float]) -> float | None:
        """`distance` of the images drawn by the pretrained network `name`; None without it, as of grey images."""
        judge = self.reference.judges.get(name)
        if judge is None:
            return None
        if name not in self._pretrained_features:
            self._pretrained_features[name] = judge.features(self.drawn)
        return distance(judge, self._pretrained_features[name])

    @cached_property
    def neighbours(self) -> NeighbourEnergy | None:
        """Of the images drawn; None of grey ones."""
        return neighbour_energy(self.drawn) if self.reference.is_colour else None

    @cached_property
    def nearest(self) -> Nearest | None:
        """The images seen that are nearest to those drawn; None of grey ones."""
        return self.reference.training_images.nearest(self.drawn) if self.reference.is_colour else None

    @cached_property
    def classes(self) -> npt.NDArray[np.int64] | None:
        """The class that the classifier names for each image drawn; None without a classifier."""
        return None if self.reference.classifier is None else self.reference.classifier.classes(self.drawn)

    @cached_property
    def class_histogram(self) -> ClassHistogram | None:
        """Of the classes that have real images; a class may have a name and none."""
        seen = self.reference.seen
        if self.classes is None or seen.labels is None:
            return None
        counts = np.bincount(seen.labels, minlength=len(seen.label_names))
        exists = counts > 0
        number = np.cumsum(exists) - 1
        return class_histogram(number[self.classes[exists[self.classes]]], counts[exists])

    @property
    def is_asked_for_classes(self) -> bool:
        """Whether the model is conditional, and there is a classifier of its classes."""
        return self._labels is not None and self.reference.classifier is not None

    @cached_property
    def label_accuracy(self) -> float | None:
        """Share of the images drawn that the classifier names by the label asked for; None as above."""
        if self.classes is None or self._labels is None:
            return None
        return float((self.classes == self._labels).mean())

    @cached_property
    def accuracy_score(self) -> float | None:
        """Accuracy on held-out images of a classifier trained on images drawn, as many as `reference.sample`; None as above."""
        if not self.is_asked_for_classes or self._labels is None:
            return None
        count = len(self.reference.sample)
        return self.reference.score_of(self.drawn[:count], self._labels[:count])

    @cached_property
    def paths(self) -> Images:
        """(PATHS * STEPS, H, W, C), path by path: straight ones between draws from the prior."""
        noise = self._noise(2 * PATHS, stream=2)
        labels = None if self._labels is None else self._labels[:PATHS]
        starts, ends = self.model.latent(noise, None if labels is None else np.tile(labels, 2)).reshape(2, PATHS, 1, -1)
        share = np.linspace(0, 1, STEPS, dtype=np.float32)[:, None]
        latents = starts * (1 - share) + ends * share
        return self.model.decode(
            latents.reshape(PATHS * STEPS, -1), None if labels is None else np.repeat(labels, STEPS)
        )

    @cached_property
    def path_smoothness(self) -> PathSmoothness:
        """How evenly features change along `paths`."""
        return path_smoothness(self.reference.extractor(self.paths).reshape(PATHS, STEPS, -1))

    @cached_property
    def posterior(self) -> tuple[Floats, Floats] | None:
        """Mean and log-variance (N, Z) of the held-out images; None without an encoder."""
        return self._encoded(self.reference.held_out) if self.model.has_encoder else None

    @cached_property
    def reconstructions(self) -> tuple[Images, Images] | None:
        """The held-out images and the decoded means of their posteriors; None without an encoder."""
        if self.posterior is None:
            return None
        images, labels = self._inputs(self.reference.held_out)
        return images, np.concatenate(list(_by_batch(self.model.decode, self.posterior[0], labels)))

    @cached_property
    def labelled_latents(self) -> tuple[Floats, npt.NDArray[np.int64], Floats, npt.NDArray[np.int64]] | None:
        """Latents and labels of images seen, and of those held out; None without an encoder or two classes."""
        seen, held_out = self.reference.sample, self.reference.held_out
        if self.posterior is None or seen.labels is None or held_out.labels is None or not seen.has_classes:
            return None
        return self._encoded(seen)[0], seen.labels, self.posterior[0], held_out.labels

    @cached_property
    def bound_nats(self) -> float | None:
        """Mean bound on the log-likelihood of the held-out images; None where it was not asked for, or there is none."""
        if not self.iwae_draws or not self.model.has_encoder:
            return None
        bound = self.model.bound(*self._inputs(self.reference.held_out), self.iwae_draws, self.reference.seed)
        return None if bound is None else float(bound.mean())

    @cached_property
    def _labels(self) -> Labels:
        """Labels to draw by, each as often as in the real images."""
        _, labels = self._inputs(self.reference.seen)
        draw = np.random.default_rng(self.reference.seed + 1)
        return None if labels is None else draw.choice(labels, self.reference.images)

    def _noise(self, rows: int, stream: int = 0) -> Floats:
        draw = np.random.default_rng(self.reference.seed + stream)
        return draw.standard_normal((rows, self.model.noise_dim), np.float32)

    def _encoded(self, real: RealImages) -> tuple[Floats, Floats]:
        means, log_variances = zip(*_by_batch(self.model.encode, *self._inputs(real)), strict=True)
        return np.concatenate(means), np.concatenate(log_variances)

    def _inputs(self, real: RealImages) -> tuple[Images, Labels]:
        """Images, and their labels if the model is conditional.

        Raises: ValueError, if there are none, or their classes are not the first ones of the model's.
        """
        if not self.model.label_names:
            return real.images, None
        names = list(real.label_names)
        if real.labels is None or names != self.model.label_names[: len(names)]:
            raise ValueError(
                f"labels: {self.model.name} draws {_listed(self.model.label_names)}, the images are of {_listed(names)}"
            )
        return real.images, real.labels


def _listed(names: list[str]) -> str:
    return f"{', '.join(names)[:100]} ({len(names)} classes)" if names else "no classes"


def _by_batch(function: Callable[[Rows, Labels], Result], rows: Rows, labels: Labels) -> Iterator[Result]:
    """What `function` makes of BATCH rows and their labels at a time."""
    for start in range(0, len(rows), BATCH):
        batch = slice(start, start + BATCH)
        yield function(rows[batch], None if labels is None else labels[batch])
