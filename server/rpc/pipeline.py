"""The stages of drawing: sample the noise, run the graph, encode the images.

    Drawing, Place -> sample -> Place.run -> encode -> parts of a GenerateResponse

Used for a whole unary request and for each piece of a request on a stream alike.
"""

import asyncio
import time

import numpy as np

from figment.v1.image_service_pb2 import GenerateResponse
from figment.v1.images_pb2 import Timing
from server.arrays import Arrays
from server.models.registry import LoadedModel
from server.rpc import codecs as pictures
from server.rpc.noise import Sampler, truncate
from server.rpc.protobuf_parts import Parts, nested
from server.rpc.validation import Drawing
from server.scheduling.admission import Place
from server.telemetry.metrics import Metrics
from server.telemetry.tracing import current_trace

INLINE_IMAGES = 64
"""More images of a unary request than this are sampled in a thread: the 0.2 ms that these take hold up everybody else's
requests. A piece of a request on a stream is what one run computes, and is sampled at once."""


class Stages:
    """The stages before and after the engine, timed."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._sampler = Sampler()

    async def draw(self, place: Place, drawing: Drawing) -> Parts:
        """All images of a drawing that was admitted, as a GenerateResponse."""
        arguments = (drawing, drawing.first_index, drawing.count)
        if drawing.count <= INLINE_IMAGES:
            inputs = self.sample(*arguments)
        else:
            inputs = await asyncio.to_thread(self.sample, *arguments, Sampler())
        outputs = await place.run(drawing.model.graphs["generator"], inputs)
        images, encode_s = await self.encode_beside(drawing.model, outputs, drawing.image_format)
        return self.response(place, drawing, drawing.first_index, inputs, images, encode_s)

    def sample(self, drawing: Drawing, first_index: int, count: int, sampler: Sampler | None = None) -> Arrays:
        """Inputs of the generator graph for images first_index to first_index + count - 1.

        Other threads than the event loop's need a sampler of their own.
        """
        model = drawing.model
        started_s = time.monotonic()
        noise, labels = (sampler or self._sampler).sample(
            drawing.seed, first_index, count, model.noise_dim, model.number_of_labels
        )
        truncate(noise, model.latent_dim, drawing.truncation)
        inputs: Arrays = {"noise": noise}
        if model.number_of_labels:
            if drawing.label is not None:
                labels[:] = drawing.label
            inputs["label"] = labels
        self._observe(model, "sample", started_s)
        return inputs

    def encode(self, model: LoadedModel, outputs: Arrays, image_format: int) -> tuple[Parts, float]:
        """The images of a run as an ImageBatch, and the seconds that it took."""
        started_s = time.monotonic()
        batch = pictures.encode(outputs["images"].astype(np.uint8, copy=False), image_format)
        return batch, self._observe(model, "encode", started_s)

    async def encode_beside(self, model: LoadedModel, outputs: Arrays, image_format: int) -> tuple[Parts, float]:
        """The same; files are made in a thread."""
        if image_format == pictures.RAW:
            return self.encode(model, outputs, image_format)
        return await asyncio.to_thread(self.encode, model, outputs, image_format)

    def response(
        self, place: Place, drawing: Drawing, first_index: int, inputs: Arrays, images: Parts, encode_s: float
    ) -> Parts:
        """The GenerateResponse of images that were drawn from `inputs`."""
        model = drawing.model
        response = GenerateResponse(
            seed=drawing.seed,
            first_index=first_index,
            labels=inputs["label"].tolist() if "label" in inputs else (),
            model=model.name,
            version=model.version,
            engine=model.engine,
            timing=timing(place, encode_s),
        )
        return nested(response, "images", images)

    def _observe(self, model: LoadedModel, stage: str, started_s: float) -> float:
        seconds = time.monotonic() - started_s
        self._metrics.stage_seconds.labels(model.name, stage).observe(seconds)
        if trace := current_trace():
            trace.stage(stage, started_s, seconds)
        return seconds


def timing(place: Place, encode_s: float) -> Timing:
    """Where the time of a request went."""
    return Timing(queue_s=place.queue_s, compute_s=place.compute_s, encode_s=encode_s, batch_size=place.batch_size)
