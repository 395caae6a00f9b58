"""Group waiting rows into batches and hand each request its own.

    admit() -> Place.run() -> _lanes -> _take_batch() -> engine.run() -> each request's future

One task, `work`, owns the queue. A batch is what piled up while the last one ran, up to `max_size` rows of one graph;
the engine never idles while something waits. A request of more rows than fit takes turns with the others, piece by
piece. Admission counts images; a place is free again as soon as its block is left, whatever ended it.
Knows numpy and asyncio, not gRPC or onnxruntime.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import structlog

from server.errors import EngineFailed, Rejected, Unavailable
from server.metrics import Metrics

log = structlog.get_logger()


Array = npt.NDArray[np.generic]
Arrays = dict[str, Array]
"""Inputs or outputs of a graph by name; rows are the first axis."""


class Graph(Protocol):
    """Something that an engine can run; compared by identity."""

    @property
    def model(self) -> str:
        """Name of the model that it belongs to."""


class Run(NamedTuple):
    """One run: outputs with as many rows as the inputs had, rows computed only as padding, start and duration."""

    outputs: Arrays
    padding: int
    started_s: float
    compute_s: float


class RunsGraphs(Protocol):
    """What the batcher needs of an engine."""

    @property
    def device(self) -> str:
        """Name of the device."""

    async def run(self, graph: Graph, pieces: Sequence[Arrays]) -> Run:
        """Run `graph` on the rows of all pieces, in order; called by one task at a time."""


@dataclass(eq=False)
class _Request:
    """Rows on their way through the queue: [0, taken) are in a run or done, the rest waits."""

    inputs: Arrays
    count: int
    future: asyncio.Future[Arrays]
    queued_s: float
    taken: int = 0
    done: int = 0
    parts: list[Arrays] = field(default_factory=list)
    queue_s: float = 0.0
    compute_s: float = 0.0
    batch_size: int = 0


class _Piece(NamedTuple):
    """Rows start to stop of a request, in the batch being formed."""

    request: _Request
    start: int
    stop: int


class Batcher:
    """The queue in front of one engine."""

    def __init__(self, engine: RunsGraphs, metrics: Metrics, max_size: int, queue_images: int) -> None:
        self._engine = engine
        self._metrics = metrics
        self._max_size = max_size
        self._queue_images = queue_images
        self._admitted_images = 0
        self._closed: str | None = None
        self._stopped = False
        self._lanes: OrderedDict[Graph, deque[_Request]] = OrderedDict()
        self._waiting = asyncio.Event()
        self._images_per_s = 1000.0
        metrics.queue_limit_images.set(queue_images)

    def admit(self, model: str, images: int, *, is_continued: bool = False) -> "Place":
        """Reserve places for `images` images of one request, all or none.

        A request that comes back for its next images, `is_continued`, was admitted with its first: it is not refused.

        Raises: Rejected, if they do not fit; Unavailable, once `close` was called.
        """
        if is_continued:
            return Place(self, model, images)
        if self._closed:
            self._metrics.rejected.labels(model, "draining").inc()
            raise Unavailable(self._closed)
        if self._admitted_images + images > self._queue_images:
            self._metrics.rejected.labels(model, "queue_full").inc()
            raise Rejected(
                f"the queue is full: {self._admitted_images} of {self._queue_images} images are admitted, "
                f"{images} more do not fit",
                retry_after_s=max(0.01, self._admitted_images / self._images_per_s),
            )
        return Place(self, model, images)

    def close(self, reason: str) -> None:
        """Admit nothing more; what was admitted goes on."""
        self._closed = reason

    async def work(self) -> None:
        """Run batches until cancelled; then everything that still waits ends as unavailable."""
        try:
            while True:
                await self._waiting.wait()
                graph, pieces = self._take_batch()
                if graph is None:
                    self._waiting.clear()
                    continue
                await self._run_batch(graph, pieces)
        except Exception:
            log.exception("bug: the queue's task has ended")
            raise
        finally:
            self._stopped = True
            self.close("the server has stopped")
            for lane in self._lanes.values():
                for request in lane:
                    _fail(request, Unavailable("the server has stopped"))
            self._lanes.clear()

    def _take_batch(self) -> tuple[Graph | None, list[_Piece]]:
        """The next batch: of the graph whose turn it is, from its requests in turn."""
        while self._lanes:
            graph, lane = self._lanes.popitem(last=False)
            pieces: list[_Piece] = []
            room = self._max_size
            while lane and room:
                request = lane.popleft()
                if request.future.done():
                    continue
                stop = min(request.count, request.taken + room)
                pieces.append(_Piece(request, request.taken, stop))
                room -= stop - request.taken
                request.taken = stop
                if stop < request.count:
                    lane.append(request)
            if lane:
                self._lanes[graph] = lane
            if pieces:
                return graph, pieces
        return None, []

    async def _run_batch(self, graph: Graph, pieces: list[_Piece]) -> None:
        size = sum(piece.stop - piece.start for piece in pieces)
        inputs = [{name: a[piece.start : piece.stop] for name, a in piece.request.inputs.items()} for piece in pieces]
        try:
            run = await self._engine.run(graph, inputs)
            self._deliver(pieces, size, run)
            self._observe(graph.model, size, run)
        except Exception as error:  # whatever the runtime raised or returned, the queue goes on
            log.exception("run failed", model=graph.model, images=size)
            for piece in pieces:
                _fail(piece.request, EngineFailed(f"the engine failed on a batch of {size}: {type(error).__name__}"))
            return
        except asyncio.CancelledError:
            for piece in pieces:
                _fail(piece.request, Unavailable("the server has stopped"))
            raise

    def _deliver(self, pieces: list[_Piece], size: int, run: Run) -> None:
        """Give each request its rows of a run of `size` rows, and its answer with the last of them."""
        row = 0
        for request, start, stop in pieces:
            rows = {name: array[row : row + stop - start] for name, array in run.outputs.items()}
            row += stop - start
            if request.future.done():
                continue
            if not request.parts:
                request.queue_s = run.started_s - request.queued_s
                request.batch_size = size
            request.parts.append(rows)
            request.compute_s += run.compute_s
            request.done += stop - start
            if request.done == request.count:
                request.future.set_result(_joined(request.parts))

    def _observe(self, model: str, size: int, run: Run) -> None:
        self._metrics.batch_images.labels(model).observe(size)
        if "images" in run.outputs:
            self._metrics.images.labels(model).inc(size)
        self._metrics.stage_seconds.labels(model, "infer").observe(run.compute_s)
        self._metrics.engine_busy_seconds.labels(self._engine.device).inc(run.compute_s)
        if run.padding:
            self._metrics.padding_images.labels(model).inc(run.padding)
        self._images_per_s = 0.9 * self._images_per_s + 0.1 * size / max(run.compute_s, 1e-6)


class Place:
    """Room for some images of one request, from admission to the end of its `with` block.

    queue_s, compute_s   seconds that its runs waited and took, summed
    batch_size           images or latents in the first run that it was part of
    """

    def __init__(self, batcher: Batcher, model: str, images: int) -> None:
        self._batcher = batcher
        self._gauge = batcher._metrics.queue_images.labels(model)
        self._queue_stage = batcher._metrics.stage_seconds.labels(model, "queue")
        self._images = images
        self.queue_s = 0.0
        self.compute_s = 0.0
        self.batch_size = 0
        batcher._admitted_images += images
        self._gauge.inc(images)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._batcher._admitted_images -= self._images
        self._gauge.dec(self._images)

    async def run(self, graph: Graph, inputs: Arrays) -> Arrays:
        """Outputs of `graph` for inputs of N rows each, N at most the images of this place.

        Cancelling the call takes its waiting rows out of the queue.

        Raises: EngineFailed, Unavailable.
        """
        count = len(next(iter(inputs.values())))
        assert 0 < count <= self._images, "rows were admitted before"
        if self._batcher._stopped:
            raise Unavailable("the server has stopped")
        request = _Request(inputs, count, asyncio.get_running_loop().create_future(), time.monotonic())
        self._batcher._lanes.setdefault(graph, deque()).append(request)
        self._batcher._waiting.set()
        outputs = await request.future
        self._queue_stage.observe(request.queue_s)
        self.queue_s += request.queue_s
        self.compute_s += request.compute_s
        self.batch_size = self.batch_size or request.batch_size
        return outputs


def _joined(parts: list[Arrays]) -> Arrays:
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _fail(request: _Request, error: Exception) -> None:
    if not request.future.done():
        request.future.set_exception(error)
