"""The quality gate of lossy variants: whether their images are as good as those of the exact graphs.

    real images -> features -> moments       graph, noise -> images -> moments       -> Frechet distances -> passed or refused

Distances are those that `figment evaluate` tells: between features of a convolutional network with fixed random weights and,
where there are labels, of a classifier trained on them. Both graphs of a comparison draw from the same noise, so their
distances differ by what the variant does and not by chance: a shift of colour counts, errors that nobody would see do not.
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx

from evaluation.reconstruction import psnr_db
from evaluation.reference import Reference
from export.errors import VariantRefused
from export.golden import GOLDEN_SEED, golden_inputs
from export.pixels import IMAGES
from export.sessions import Arrays, run, session, split
from export.source import Data, Source, real_images
from figment.v1.manifest_pb2 import Drift
from training.data import ImageSet

MAX_DRIFT = 0.01
"""Largest part of the exact graph's distance by which a variant's may differ."""

IMAGES_DRAWN = 10_000
"""Images drawn by each graph."""

SEED = GOLDEN_SEED + 2
BATCH = 250


class QualityGate:
    """Compares the graphs of one source by real images, which are loaded when first needed."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def quality(self) -> dict[str, float]:
        """Figures of the exact graphs: Frechet distances and, with an encoder, of reconstructions of held-out images."""
        figures = dict(self._exact_samples)
        if "encoder" in self._source.graphs:
            rebuilt = np.concatenate(list(self._reconstructions(*self._exact_pair, self._data.held_out)))
            figures["reconstruction_psnr_db"] = psnr_db(self._data.held_out.images[: len(rebuilt)], rebuilt)
        return figures

    @property
    def judged_by(self) -> str:
        """The features of the distances."""
        return self._reference.judged_by

    def encoder_inputs(self, count: int) -> Arrays:
        """The first `count` images that the model has seen, with their labels if it is conditional."""
        return self._inputs(self._data.seen, slice(count))

    def drift_of_samples(self, file: str, generator: onnx.ModelProto) -> dict[str, Drift]:
        """What a variant does to the distance of images drawn, by the key of the distance.

        Raises: VariantRefused, if that is more than MAX_DRIFT.
        """
        return _drift(file, self._exact_samples, self._reference.distances(self._samples(generator)))

    def drift_of_reconstructions(
        self, file: str, encoder: onnx.ModelProto, decoder: onnx.ModelProto
    ) -> dict[str, Drift]:
        """What a variant's encoder and decoder do to the distance of reconstructions. Raises: VariantRefused."""
        return _drift(
            file,
            self._exact_reconstructions,
            self._reference.distances(self._reconstructions(encoder, decoder, self._data.seen)),
        )

    @cached_property
    def _data(self) -> Data:
        return self._source.data()

    @cached_property
    def _reference(self) -> Reference:
        return Reference(real_images(self._data.seen), real_images(self._data.held_out), images=IMAGES_DRAWN)

    @cached_property
    def _exact_pair(self) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        graphs = self._source.graphs
        return graphs["encoder"], graphs.get("decoder", graphs["generator"])

    @cached_property
    def _exact_samples(self) -> dict[str, float]:
        return self._reference.distances(self._samples(self._source.graphs["generator"]))

    @cached_property
    def _exact_reconstructions(self) -> dict[str, float]:
        return self._reference.distances(self._reconstructions(*self._exact_pair, self._data.seen))

    def _samples(self, generator: onnx.ModelProto) -> Iterator[npt.NDArray[np.uint8]]:
        facts = self._source.facts
        graph = session(generator)
        for inputs in split(golden_inputs(IMAGES_DRAWN, facts.noise_dim, len(facts.labels), SEED), BATCH):
            yield run(graph, inputs)[IMAGES]

    def _reconstructions(
        self, encoder: onnx.ModelProto, decoder: onnx.ModelProto, images: ImageSet
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Reconstructions of the first IMAGES_DRAWN of `images`: the decoded means of their latents."""
        encoding, decoding = session(encoder), session(decoder)
        source = next(node.name for node in decoder.graph.input if node.name in {"latent", "noise"})
        for inputs in split(self._inputs(images, slice(IMAGES_DRAWN)), BATCH):
            labels = {name: array for name, array in inputs.items() if name != IMAGES}
            yield run(decoding, {source: run(encoding, inputs)["mean"], **labels})[IMAGES]

    def _inputs(self, images: ImageSet, rows: slice) -> Arrays:
        inputs: Arrays = {IMAGES: images.images[rows]}
        if self._source.facts.labels and images.labels is not None:
            inputs["label"] = images.labels[rows]
        return inputs


def relative_change(exact: float, variant: float) -> str:
    """Of a distance, in percent, for a person; in words where the exact one is zero, as of images that are all the same."""
    return f"{variant / exact - 1:+.2%}" if exact else "from nothing" if variant else "unchanged"


def _drift(file: str, exact: dict[str, float], variant: dict[str, float]) -> dict[str, Drift]:
    for name, distance in exact.items():
        # Written so that NaN is refused.
        if not abs(variant[name] - distance) <= MAX_DRIFT * distance:
            raise VariantRefused(
                f"{file}: Frechet distance ({name}) {variant[name]:.4g}, {distance:.4g} in fp32 on the same "
                f"noise: {relative_change(distance, variant[name])}, allowed are {MAX_DRIFT:.0%} either way"
            )
    return {name: Drift(fp32=exact[name], variant=variant[name], images=IMAGES_DRAWN) for name in exact}
