"""The real images that models are compared with, and the features in which they are compared.

    real images -> Reference        images, batch by batch -> features -> moments -> Frechet distances to the real ones

Made once for a set of real images, so that all models are compared by the same features and images. Knows no model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evaluation import pretrained
from evaluation.authenticity import Nearest, TrainingImages
from evaluation.colour import colour_histogram, thumbnail_rows
from evaluation.features import ClassifierFeatures, Features, RandomFeatures
from evaluation.frechet import Moments, frechet_distance
from evaluation.lattice import NeighbourEnergy, neighbour_energy
from evaluation.model import Floats, Images, Labels
from evaluation.pretrained import Judge
from evaluation.spectrum import Spectrum, power_spectrum

IMAGES = 10_000
"""Images drawn, and real images compared with, at most."""

FRECHET_KEYS = {"random": "frechet_random", "classifier": "fid_clf", "inception": "fid"}
"""Keys of Frechet distances by the name of the features. Only by Inception's is it the FID."""


@dataclass(frozen=True)
class RealImages:
    """Real images (N, H, W, C) uint8 and their labels (N,), None where there are none."""

    images: Images
    labels: Labels = None
    label_names: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def has_classes(self) -> bool:
        """Whether images of at least two classes are there; one alone may be what was chosen of a larger set."""
        return self.labels is not None and len(np.unique(self.labels)) > 1

    def sample(self, count: int, seed: int) -> "RealImages":
        """`count` of the images, or all, in an order that `seed` decides."""
        rows = np.random.default_rng(seed).permutation(len(self))[:count]
        return RealImages(self.images[rows], None if self.labels is None else self.labels[rows], self.label_names)


@dataclass
class Reference:
    """Real images, and features of them.

    seen                 images that models may have learned from
    held_out             images that they have not
    features_override    features that distances are taken between; by default a classifier trained on the labels of `seen`,
                         or where there are none the random features
    images               images that a model draws, and that are taken of `seen`, at most
    """

    seen: RealImages
    held_out: RealImages
    features_override: Features | None = None
    images: int = IMAGES
    seed: int = 0

    @cached_property
    def random(self) -> RandomFeatures:
        """Features that need no labels."""
        return RandomFeatures(self.seen.images.shape[-1])

    @cached_property
    def classifier(self) -> ClassifierFeatures | None:
        """A classifier of the labels; None where images of fewer than two classes are there."""
        labels = self.seen.labels
        if labels is None or not self.seen.has_classes:
            return None
        return ClassifierFeatures.train(self.seen.images, labels, len(self.seen.label_names))

    @cached_property
    def held_out_accuracy(self) -> float | None:
        """Accuracy of the classifier on the held-out images; None where there are no labels."""
        return None if self.classifier is None else self._accuracy(self.classifier)

    @cached_property
    def sample_score(self) -> float | None:
        """Accuracy on the held-out images of a classifier trained on `sample` alone; None as above."""
        if self.classifier is None or len(self.sample) == len(self.seen):
            return self.held_out_accuracy
        return self.score_of(self.sample.images, self.sample.labels)

    def score_of(self, images: Images, labels: Labels) -> float | None:
        """Accuracy on the held-out images of a classifier trained on `images` (N, H, W, C) uint8 of `labels` (N,) alone.

        None where there are no labels, or held-out ones to test by.
        Source: the classification accuracy score, Ravuri and Vinyals 2019, section 3.
        """
        if labels is None or self.held_out.labels is None:
            return None
        return self._accuracy(ClassifierFeatures.train(images, labels, len(self.seen.label_names)))

    def _accuracy(self, classifier: ClassifierFeatures) -> float | None:
        labels = self.held_out.labels
        return None if labels is None else classifier.accuracy(self.held_out.images, labels)

    @cached_property
    def extractor(self) -> Features:
        """The features that neighbourhoods and the main distance are taken between."""
        return self.features_override or self.classifier or self.random

    @cached_property
    def features(self) -> list[Features]:
        """The random features, and the extractor where it is another."""
        return [self.random, *([self.extractor] if self.extractor is not self.random else [])]

    @cached_property
    def spectrum(self) -> Spectrum:
        """Power spectrum of the held-out images."""
        return power_spectrum(self.held_out.images)

    @cached_property
    def sample(self) -> RealImages:
        """As many of the images seen as are drawn: what distances and neighbourhoods are taken to."""
        return self.seen.sample(self.images, self.seed)

    @cached_property
    def sample_features(self) -> Floats:
        """(N, D) of `sample`, by the extractor."""
        return self.extractor(self.sample.images)

    @property
    def is_colour(self) -> bool:
        """Whether the images are RGB: what figures of colour pictures apply to."""
        return bool(self.seen.images.shape[-1] == 3)

    @cached_property
    def judges(self) -> dict[str, Judge]:
        """Pretrained networks by name: of colour pictures, and where their weights are installed."""
        found = pretrained.installed() if self.is_colour else []
        held_out = self.held_out.sample(self.images, self.seed).images
        return {features.name: Judge(features, self.sample.images, held_out) for features in found}

    @property
    def absence(self) -> str | None:
        """Why colour pictures have no distances by some pretrained network, and what to do; None where they have all."""
        return pretrained.absence(list(self.judges)) if self.is_colour else None

    @cached_property
    def colours(self) -> npt.NDArray[np.float64]:
        """The colour histogram of `sample`."""
        return colour_histogram(self.sample.images)

    @cached_property
    def thumbnails(self) -> Floats:
        """(N, D) of `sample`, for the distance of colours."""
        return thumbnail_rows(self.sample.images)

    @cached_property
    def neighbours(self) -> NeighbourEnergy:
        """Of `sample`."""
        return neighbour_energy(self.sample.images)

    @cached_property
    def training_images(self) -> TrainingImages:
        """All images seen, to look copies up in."""
        return TrainingImages(self.seen.images)

    @cached_property
    def held_out_nearest(self) -> Nearest:
        """The images seen that are nearest to those held out."""
        return self.training_images.nearest(self.held_out.images)

    @property
    def judged_by(self) -> str:
        """Names the features: figures by others cannot be compared."""
        return f"{self.extractor.name} {self.extractor.hash}, {self.images} images"

    def distances(self, batches: Iterable[Images]) -> dict[str, float]:
        """Frechet distances of images to the real ones, by figure key."""
        moments = self._moments(batches)
        return {FRECHET_KEYS[name]: frechet_distance(moments[name], real) for name, real in self._real_moments.items()}

    @cached_property
    def _real_moments(self) -> dict[str, Moments]:
        return self._moments([self.sample.images])

    def _moments(self, batches: Iterable[Images]) -> dict[str, Moments]:
        moments = {features.name: Moments(features.dim) for features in self.features}
        for images in batches:
            for features in self.features:
                moments[features.name].add(features(images))
        return moments
