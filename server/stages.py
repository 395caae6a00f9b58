"""The stages of drawing: sample the noise, run the graph, encode the images.

    Drawing, Place -> sample -> Place.run -> encode -> parts of a GenerateResponse

Used for a whole unary request and for each piece of a request on a stream alike.
"""

import asyncio
import time

import numpy as np

from figment.v1.image_service_pb2 import GenerateResponse
from figment.v1.images_pb2 import Timing
from server import pictures
from server.admission import Place
from server.catalogue import LoadedModel
from server.metrics import Metrics
from server.noise import Sampler, truncate
from server.requests import Drawing, Labels
from server.turns import Arrays
from server.wire import Parts, nested

INLINE_IMAGES = 64
"""More images than this are sampled in a thread: about 0.2 ms would hold up everybody else's requests."""


class Stages:
    """The stages before and after the engine, timed."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._sampler = Sampler()

    async def draw(self, place: Place, drawing: Drawing, first_index: int, count: int) -> Parts:
        """Images first_index to first_index + count - 1 of a drawing that was admitted, as a GenerateResponse."""
        model = drawing.model
        inputs, labels = await self._sample(drawing, first_index, count)
        outputs = await place.run(model.graphs["generator"], inputs)
        images, encode_s = await self.encode(model, outputs, drawing.image_format)
        response = GenerateResponse(
            seed=drawing.seed,
            first_index=first_index,
            labels=labels.tolist(),
            model=model.name,
            version=model.version,
            engine=model.engine,
            timing=timing(place, encode_s),
        )
        return nested(response, "images", [images])

    async def encode(self, model: LoadedModel, outputs: Arrays, image_format: int) -> tuple[Parts, float]:
        """The images of a run as an ImageBatch, and the seconds that it took; files are made in a thread."""
        images = outputs["images"].astype(np.uint8, copy=False)
        started_s = time.monotonic()
        if image_format == pictures.RAW:
            batch = pictures.encode(images, image_format)
        else:
            batch = await asyncio.to_thread(pictures.encode, images, image_format)
        return batch, self._observe(model, "encode", started_s)

    async def _sample(self, drawing: Drawing, first_index: int, count: int) -> tuple[Arrays, Labels]:
        """Inputs of the generator graph, and the labels of the images; none on an unconditional model."""
        model = drawing.model
        started_s = time.monotonic()
        arguments = (drawing.seed, first_index, count, model.noise_dim, model.number_of_labels)
        if count <= INLINE_IMAGES:
            noise, labels = self._sampler.sample(*arguments)
        else:
            noise, labels = await asyncio.to_thread(Sampler().sample, *arguments)
        truncate(noise, model.latent_dim, drawing.truncation)
        if drawing.label is not None:
            labels[:] = drawing.label
        self._observe(model, "sample", started_s)
        return {"noise": noise, **({"label": labels} if model.number_of_labels else {})}, labels

    def _observe(self, model: LoadedModel, stage: str, started_s: float) -> float:
        seconds = time.monotonic() - started_s
        self._metrics.stage_seconds.labels(model.name, stage).observe(seconds)
        return seconds


def timing(place: Place, encode_s: float) -> Timing:
    """Where the time of a request went."""
    return Timing(queue_s=place.queue_s, compute_s=place.compute_s, encode_s=encode_s, batch_size=place.batch_size)
