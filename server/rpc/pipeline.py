"""The stages of a request: sample the noise, run a graph, encode the images, each timed and traced.

    GenerateParams -> sample() -> inputs -> run() -> Request -> encode() -> parts of an ImageBatch -> reply

A unary request awaits the stages, a stream, whose requests are no tasks, is called back: the stages are the same.
"""

import asyncio
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial

import numpy as np
from google.protobuf.message import Message

from figment.v1.image_service_pb2 import GenerateResponse
from figment.v1.images_pb2 import Timing
from server.arrays import Arrays
from server.models.bundle import truncated_dim
from server.models.graph import Graph
from server.models.registry import LoadedModel, ModelRegistry
from server.rpc import codecs
from server.rpc.codecs import RAW
from server.rpc.limits import Limits
from server.rpc.noise import Sampler, truncate
from server.rpc.protobuf_parts import Parts, header
from server.rpc.validation import GenerateParams
from server.scheduling.admission import Admission
from server.scheduling.request import Queue, Request
from server.telemetry.metrics import Metrics
from server.telemetry.tracing import Trace, current_trace

INLINE_IMAGES = 64
"""More images of a unary request than this are sampled in a thread: the 0.2 ms that these take hold up everybody else's
requests. A piece of a request on a stream is what one run computes, and is sampled at once."""


class Pipeline:
    """The stages, in front of one queue."""

    def __init__(self, queue: Queue, admission: Admission, metrics: Metrics) -> None:
        self.queue = queue
        self._admission = admission
        self._metrics = metrics
        self._sampler = Sampler()

    async def sample(self, params: GenerateParams) -> Arrays:
        """Inputs of the generator graph for all images of a request."""
        if params.count <= INLINE_IMAGES:
            return self.sample_some(params, params.first_index, params.count, self._sampler)
        return await asyncio.to_thread(self.sample_some, params, params.first_index, params.count, Sampler())

    def sample_some(
        self, params: GenerateParams, first_index: int, count: int, sampler: Sampler | None = None
    ) -> Arrays:
        """Inputs of the generator graph for images first_index to first_index + count - 1.

        Other threads than the event loop's need a sampler of their own.
        """
        model = params.model
        started_s = time.monotonic()
        noise, labels = (sampler or self._sampler).sample(
            params.seed, first_index, count, model.manifest.noise_dim, len(model.manifest.labels)
        )
        if params.truncation != 1:
            truncate(noise, truncated_dim(model.manifest), params.truncation)
        inputs: Arrays = {"noise": noise}
        if model.manifest.labels:
            if params.label is not None:
                labels[:] = params.label
            inputs["label"] = labels
        self._observe(model, "sample", started_s)
        return inputs

    async def run(self, graph: Graph, inputs: Arrays, caller: Hashable) -> Request:
        """Queue rows that were admitted, and wait for the request's outputs.

        Raises: EngineFailed, Rejected, Unavailable.
        """
        finished: asyncio.Future[Request] = asyncio.get_running_loop().create_future()
        request = self.submit(graph, inputs, caller, partial(_finish, finished))
        try:
            await finished
        except asyncio.CancelledError:
            self.queue.cancel(request)
            raise
        if request.error:
            raise request.error
        return request

    def submit(self, graph: Graph, inputs: Arrays, caller: Hashable, finish: Callable[[Request], None]) -> Request:
        """As `run`, for whoever is no task: `finish` is called once, unless the request is cancelled."""
        return self.queue.submit(graph, inputs, caller, partial(self._finished, current_trace.get(), finish))

    def encode_inline(self, model: LoadedModel, run: Request, image_format: int) -> tuple[Parts, float]:
        """The images of a run as an ImageBatch, and the seconds that it took."""
        started_s = time.monotonic()
        images = run.outputs["images"].astype(np.uint8, copy=False)
        if image_format == RAW:
            batch: Parts = [codecs.raw_header(images.shape), images.reshape(-1).data]
        else:
            batch = codecs.encode(images, image_format)
        return batch, self._observe(model, "encode", started_s)

    async def encode(self, model: LoadedModel, run: Request, image_format: int) -> tuple[Parts, float]:
        """As `encode_inline`, but image files, which take milliseconds each, are made in a thread."""
        if image_format == RAW:
            return self.encode_inline(model, run, image_format)
        return await asyncio.to_thread(self.encode_inline, model, run, image_format)

    def generate_response(
        self, params: GenerateParams, first_index: int, inputs: Arrays, run: Request, images: Parts, encode_s: float
    ) -> Parts:
        """The GenerateResponse of images that were drawn from `inputs`."""
        model = params.model
        response = GenerateResponse(
            seed=params.seed,
            first_index=first_index,
            labels=inputs["label"].tolist() if "label" in inputs else (),
            model=model.name,
            version=model.version,
            engine=model.engine,
            timing=timing(run, encode_s=encode_s),
        )
        return with_images(response, images)

    def _finished(self, trace: Trace | None, finish: Callable[[Request], None], request: Request) -> None:
        if not request.error:
            self._admission.learn_rate(request)
            self._metrics.stage_seconds.labels(request.graph.model, "queue").observe(request.queue_s)
            if trace:
                trace.stage("queue", request.queued_s, request.queue_s)
                trace.stage("infer", request.queued_s + request.queue_s, request.compute_s)
        finish(request)

    def _observe(self, model: LoadedModel, stage: str, started_s: float) -> float:
        seconds = time.monotonic() - started_s
        self._metrics.stage_seconds.labels(model.name, stage).observe(seconds)
        if trace := current_trace.get():
            trace.stage(stage, started_s, seconds)
        return seconds


@dataclass(frozen=True)
class Services:
    """What all requests of one server share."""

    registry: ModelRegistry
    admission: Admission
    pipeline: Pipeline
    limits: Limits
    metrics: Metrics


def with_images(message: Message, images: Parts) -> Parts:
    """A message with images, parts of an ImageBatch, in its field `images`."""
    return [message.SerializeToString(), header(message.DESCRIPTOR, "images", sum(map(len, images))), *images]


def timing(*runs: Request, encode_s: float = 0.0) -> Timing:
    """Where the time of a request of one or more runs went; the size is that of the first run's batch."""
    return Timing(
        queue_s=sum(run.queue_s for run in runs),
        compute_s=sum(run.compute_s for run in runs),
        encode_s=encode_s,
        batch_size=runs[0].batch_size,
    )


def _finish(finished: "asyncio.Future[Request]", request: Request) -> None:
    if not finished.done():  # it may have been cancelled in the same round of the event loop
        finished.set_result(request)
