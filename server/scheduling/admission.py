"""Admission: room for images, from the moment that a request is let in to its end.

    admit() -> Place -> start() or run() -> outputs

Counts images, not requests, all together and of each model; a request that does not fit is refused at once, and a place
is free again as soon as it is left, whatever ended it. Knows asyncio, not gRPC; belongs to the event loop.
"""

import asyncio
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Protocol, Self

from server.arrays import Arrays
from server.errors import Rejected, ServingError, Unavailable
from server.models.graph import Graph
from server.scheduling.request import Request
from server.telemetry.metrics import Metrics
from server.telemetry.tracing import current_trace


class Submits(Protocol):
    """Where admitted rows go: the queue of this process, or of the one that has the engines."""

    def submit(
        self, graph: Graph, inputs: Arrays, caller: Hashable, finish: Callable[[Arrays | ServingError], None]
    ) -> Request:
        """Queue N rows; `finish` is called once with the outputs or the error, unless the request is cancelled."""

    def cancel(self, request: Request) -> None:
        """Give a request up."""


class Admission:
    """The images that are admitted at one time.

    queue_images         all together
    model_queue_images   of one model
    """

    def __init__(self, queue: Submits, metrics: Metrics, queue_images: int, model_queue_images: int) -> None:
        self.queue = queue
        self.metrics = metrics
        self._queue_images = queue_images
        self._model_queue_images = model_queue_images
        self.images = 0
        """Images that are admitted now."""
        self._model_images: dict[str, int] = {}
        self._closed: str | None = None
        self._images_per_s = 1000.0
        metrics.queue_limit_images.set(queue_images)
        metrics.on_look(self._report)

    def admit(self, model: str, images: int, caller: Hashable, *, is_continued: bool = False) -> "Place":
        """Reserve places for `images` images of one request, all or none.

        A request that comes back for its next images, `is_continued`, was admitted with its first: it is not refused.

        Raises: Rejected, if they do not fit; Unavailable, once `close` was called.
        """
        if is_continued:
            return Place(self, model, images, caller)
        if self._closed:
            self.metrics.rejected.labels(model, "draining").inc()
            raise Unavailable(self._closed)
        model_images = self._model_images.get(model, 0)
        if self.images + images > self._queue_images:
            raise self._refusal(model, "", self.images, self._queue_images, images)
        if model_images + images > self._model_queue_images:
            raise self._refusal(model, f" of {model}", model_images, self._model_queue_images, images)
        return Place(self, model, images, caller)

    def close(self, reason: str) -> None:
        """Admit nothing more; what was admitted goes on."""
        self._closed = reason

    def take(self, model: str, images: int) -> None:
        """Count images in."""
        self.images += images
        self._model_images[model] = self._model_images.get(model, 0) + images

    def free(self, model: str, images: int) -> None:
        """Count images out."""
        self.images -= images
        self._model_images[model] -= images

    def observe(self, request: Request) -> None:
        """Count how long a request waited, and learn how fast runs are, which tells a refused client when to come again."""
        self.metrics.stage_seconds.labels(request.graph.model, "queue").observe(request.queue_s)
        images_per_s = max(request.count, request.batch_size) / max(request.compute_s, 1e-6)
        self._images_per_s += 0.1 * (images_per_s - self._images_per_s)

    def _report(self) -> None:
        for model, images in list(self._model_images.items()):
            self.metrics.queue_images.labels(model).set(images)

    def _refusal(self, model: str, whose: str, admitted: int, limit: int, images: int) -> Rejected:
        self.metrics.rejected.labels(model, "queue_full").inc()
        return Rejected(
            f"the queue is full: {admitted} of {limit} images{whose} are admitted, {images} more do not fit",
            retry_after_s=max(0.01, admitted / self._images_per_s),
        )


class Place:
    """Room for some images of one request, until it is left, at the latest at the end of its `with` block.

    queue_s, compute_s   seconds that its runs waited and took, summed
    batch_size           images or latents in the first run that it was part of
    """

    def __init__(self, admission: Admission, model: str, images: int, caller: Hashable) -> None:
        self._admission = admission
        self._model = model
        self._images = images
        self._caller = caller
        self._request: Request | None = None
        self._trace = current_trace()
        self.queue_s = 0.0
        self.compute_s = 0.0
        self.batch_size = 0
        admission.take(model, images)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Be free again, and give up what was started and has not ended; nothing happens to one that was left before."""
        if self._images:
            self._admission.free(self._model, self._images)
            self._images = 0
            if self._request:
                self._admission.queue.cancel(self._request)

    def start(self, graph: Graph, inputs: Arrays, finish: Callable[[Arrays | ServingError], None]) -> None:
        """Run `graph` on inputs of N rows each, N at most the images of this place.

        `finish` is called once with the outputs or the error, EngineFailed or Unavailable, unless the place is left before.
        """
        self._finish = finish
        self._request = self._admission.queue.submit(graph, inputs, self._caller, self._ended)
        assert self._request.count <= self._images, "rows were admitted before"

    async def run(self, graph: Graph, inputs: Arrays) -> Arrays:
        """The outputs of what `start` begins; raises what it ends with."""
        future: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()

        def finish(outcome: Arrays | ServingError) -> None:
            if future.cancelled():
                return
            if isinstance(outcome, ServingError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self.start(graph, inputs, finish)
        return await future

    def _ended(self, outcome: Arrays | ServingError) -> None:
        request, self._request = self._request, None
        assert request
        if not isinstance(outcome, ServingError):
            self._admission.observe(request)
            if self._trace:
                self._trace.stage("queue", request.queued_s, request.queue_s)
                self._trace.stage("infer", request.queued_s + request.queue_s, request.compute_s)
            self.queue_s += request.queue_s
            self.compute_s += request.compute_s
            self.batch_size = self.batch_size or request.batch_size
        self._finish(outcome)
