"""How good the images of one model are: every figure and picture that a report shows.

    real images -> Judge          Subject, noise -> images, latents -> Judge.score -> Scorecard

A judge is made once for a set of real images and judges many subjects by the same features, noise and images. Distances and
neighbourhoods are taken between drawn images and as many of those that a model may have seen; blur, reconstructions and
latents by the images held out. Knows neither runs nor bundles.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evaluation.classes import class_histogram
from evaluation.features import ClassifierFeatures, Features, RandomFeatures
from evaluation.frechet import Moments, frechet_distance
from evaluation.latents import active_units, probe_accuracy, smoothness
from evaluation.manifold import neighbourhood
from evaluation.reconstruction import psnr_db, ssim
from evaluation.spectrum import Spectrum, high_frequency_energy, power_spectrum
from evaluation.subject import Floats, Images, Labels, Real, Subject

IMAGES = 10_000
"""Images drawn, and real images compared with, at most."""

PATHS = 64
STEPS = 9
"""Ways through the latent space, and images on each, both ends included."""

SHEET = 64
PAIRS = 16
SHOWN_PATHS = 8
BATCH = 250

KEYS = {"random": "frechet_random", "classifier": "fid_clf", "inception": "fid"}
"""Keys of Frechet distances by the name of the features. Only by Inception's is it the FID."""


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


@dataclass(frozen=True)
class Scorecard:
    """figures: by key, as docs/quality.md explains them."""

    name: str
    family: str
    figures: dict[str, float]
    pictures: Pictures = field(repr=False)


class Judge:
    """Judges subjects by one set of real images.

    seen        images that models may have learned from
    held_out    images that they have not
    extractor   features that distances are taken between; by default a classifier trained on the labels of `seen`, or where
                there are none the random features
    """

    def __init__(
        self, seen: Real, held_out: Real, extractor: Features | None = None, images: int = IMAGES, seed: int = 0
    ) -> None:
        self.seen = seen
        self.held_out = held_out
        self.images = images
        self.seed = seed
        self._given = extractor

    @cached_property
    def random(self) -> RandomFeatures:
        """Features that need no labels."""
        return RandomFeatures(self.seen.images.shape[-1])

    @cached_property
    def classifier(self) -> ClassifierFeatures | None:
        """A classifier of the labels; None where there are fewer than two classes."""
        labels = self.seen.labels
        if labels is None or len(self.seen.label_names) < 2:
            return None
        return ClassifierFeatures.train(self.seen.images, labels, len(self.seen.label_names))

    @cached_property
    def features(self) -> list[Features]:
        """The random features, and what else there is."""
        return [self.random, *([self.extractor] if self.extractor is not self.random else [])]

    @cached_property
    def extractor(self) -> Features:
        """The features that see most."""
        return self._given or self.classifier or self.random

    @cached_property
    def spectrum(self) -> Spectrum:
        """Of the held-out images."""
        return power_spectrum(self.held_out.images)

    @property
    def judged_by(self) -> str:
        """Names the features, for those who would compare."""
        return f"{self.extractor.name} {self.extractor.hash}, {self.images} images"

    def distances(self, batches: Iterable[Images]) -> dict[str, float]:
        """Frechet distances of images to the real ones, by the key of their features."""
        moments = self._moments(batches)
        return {KEYS[name]: frechet_distance(moments[name], real) for name, real in self._real_moments.items()}

    def score(self, subject: Subject, draws: int = 0) -> Scorecard:
        """Every figure that applies to `subject`; draws: of importance sampling, 0 leaves the bound out.

        Raises: ValueError, if its images are of another shape than the real ones, or its labels of other classes.
        """
        labels = self._labels_to_draw(subject)
        drawn = self.draw(subject, labels)
        if drawn.shape[1:] != self.seen.images.shape[1:]:
            raise ValueError(
                f"images: {subject.name} draws {drawn.shape[1:]}, real ones are {self.seen.images.shape[1:]}"
            )
        figures = self._look(drawn)
        paths, frames = self._paths(subject)
        figures |= frames
        originals = rebuilt = None
        if subject.has_encoder:
            originals, rebuilt, rest = self._latents(subject)
            figures |= rest
            if draws and (bound := subject.bound(*_pair(subject, self.held_out), draws, self.seed)) is not None:
                figures["iwae_nats"] = float(bound.mean())
        counts = self._class_counts(drawn)
        pictures = Pictures(drawn[:SHEET], originals, rebuilt, paths, power_spectrum(drawn), counts)
        return Scorecard(subject.name, subject.family, figures, pictures)

    def look(self, subject: Subject) -> dict[str, float]:
        """The figures that need samples only, at a fraction of the time of `score`."""
        return self._look(self.draw(subject, self._labels_to_draw(subject)))

    def draw(self, subject: Subject, labels: Labels = None) -> Images:
        """`images` images: the same noise for every subject of one noise_dim."""
        noise = np.random.default_rng(self.seed).standard_normal((self.images, subject.noise_dim), np.float32)
        return np.concatenate(
            [
                subject.decode(subject.latent(noise[rows], _at(labels, rows)), _at(labels, rows))
                for rows in _batches(self.images)
            ]
        )

    @cached_property
    def _real(self) -> Real:
        return self.seen.some(self.images, self.seed)

    @cached_property
    def _real_moments(self) -> dict[str, Moments]:
        return self._moments([self._real.images])

    @cached_property
    def _real_features(self) -> Floats:
        return self.extractor(self._real.images)

    def _moments(self, batches: Iterable[Images]) -> dict[str, Moments]:
        moments = {features.name: Moments(features.dim) for features in self.features}
        for images in batches:
            for features in self.features:
                moments[features.name].add(features(images))
        return moments

    def _labels_to_draw(self, subject: Subject) -> Labels:
        """As often as in the real images."""
        _, labels = _pair(subject, self.seen)
        return None if labels is None else np.random.default_rng(self.seed + 1).choice(labels, self.images)

    def _look(self, drawn: Images) -> dict[str, float]:
        found = self.distances([drawn]) | asdict(neighbourhood(self._real_features, self.extractor(drawn)))
        real = high_frequency_energy(self.held_out.images)
        # Of nothing, as in images of one grey, there are no parts.
        detail = {"detail": high_frequency_energy(drawn) / real} if real else {}
        return found | self._classes(drawn) | detail

    def _class_counts(self, drawn: Images) -> npt.NDArray[np.int64] | None:
        if self.classifier is None:
            return None
        return np.bincount(self.classifier.classes(drawn), minlength=len(self.seen.label_names))

    def _classes(self, drawn: Images) -> dict[str, float]:
        if self.classifier is None or self.seen.labels is None:
            return {}
        reference = np.bincount(self.seen.labels, minlength=len(self.seen.label_names))
        there = reference > 0  # a class may have a name and no image
        named = self.classifier.classes(drawn)
        number = np.cumsum(there) - 1
        found = class_histogram(number[named[there[named]]], reference[there])
        return {"classes_missing": float(len(found.missing)), "class_kl_nats": found.kl_nats}

    def _paths(self, subject: Subject) -> tuple[Images, dict[str, float]]:
        """Ways between latents of the prior: the first few to look at, and how even all are."""
        noise = np.random.default_rng(self.seed + 2).standard_normal((2 * PATHS, subject.noise_dim), np.float32)
        labels = self._labels_to_draw(subject)
        ends = None if labels is None else labels[:PATHS]
        starts_and_ends = subject.latent(noise, None if ends is None else np.tile(ends, 2)).reshape(2, PATHS, 1, -1)
        share = np.linspace(0, 1, STEPS, dtype=np.float32)[:, None]
        latents = starts_and_ends[0] * (1 - share) + starts_and_ends[1] * share
        frames = subject.decode(latents.reshape(PATHS * STEPS, -1), None if ends is None else np.repeat(ends, STEPS))
        found = smoothness(self.extractor(frames).reshape(PATHS, STEPS, -1))
        return frames[: SHOWN_PATHS * STEPS], {"interpolation_detour": found.detour, "interpolation_jump": found.jump}

    def _latents(self, subject: Subject) -> tuple[Images, Images, dict[str, float]]:
        """Some originals, their reconstructions, and what encoder and latents are worth."""
        images, labels = _pair(subject, self.held_out)
        mean, log_variance = _encoded(subject, images, labels)
        rebuilt = np.concatenate([subject.decode(mean[rows], _at(labels, rows)) for rows in _batches(len(images))])
        figures = {
            "reconstruction_psnr_db": psnr_db(images, rebuilt),
            "reconstruction_ssim": ssim(images, rebuilt),
            "active_units": float(active_units(mean, log_variance)),
        }
        if self.held_out.labels is not None and self._real.labels is not None and len(self.seen.label_names) > 1:
            seen, _ = _encoded(subject, *_pair(subject, self._real))
            figures["probe_accuracy"] = probe_accuracy(seen, self._real.labels, mean, self.held_out.labels)
        return images[:PAIRS], rebuilt[:PAIRS], figures


def _pair(subject: Subject, real: Real) -> tuple[Images, Labels]:
    """Images and the labels that `subject` wants with them.

    Raises: ValueError, if there are none, or their classes are not the first ones of the subject's.
    """
    if not subject.label_names:
        return real.images, None
    names = list(real.label_names)
    if real.labels is None or names != subject.label_names[: len(names)]:
        raise ValueError(
            f"labels: {subject.name} draws {_listed(subject.label_names)}, the images are of {_listed(names)}"
        )
    return real.images, real.labels


def _listed(names: list[str]) -> str:
    return f"{', '.join(names)[:100]} ({len(names)} classes)" if names else "no classes"


def _encoded(subject: Subject, images: Images, labels: Labels) -> tuple[Floats, Floats]:
    pairs = [subject.encode(images[rows], _at(labels, rows)) for rows in _batches(len(images))]
    return np.concatenate([mean for mean, _ in pairs]), np.concatenate([spread for _, spread in pairs])


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, min(start + BATCH, count)) for start in range(0, count, BATCH))


def _at(labels: Labels, rows: slice) -> Labels:
    return None if labels is None else labels[rows]
