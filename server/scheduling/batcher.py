"""Group waiting rows into batches and hand each request its own.

    event loop: submit() -> FairQueue     worker thread: _take() -> graph.run() -> event loop: _deal_out() -> finish()

Any number of worker threads, of one engine or several, take from one queue the moment they are free: a batch is what
piled up meanwhile, so no engine waits while rows do, and no busy event loop stands between two runs. There is one
exception: while the event loop is busy taking in more requests, a batch that is too small to be worth a run is left to
grow, until it is worth it or the event loop has nothing more to do. Both want the interpreter, so a small run would only
hold up the requests that could have been part of it.
The queue is guarded by one lock; what a run gave is dealt out in the event loop.
Knows numpy, threads and asyncio, not gRPC or onnxruntime.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
import structlog

from server.arrays import Arrays
from server.errors import EngineFailed, ServingError, Unavailable
from server.models.graph import Graph
from server.scheduling.engine import Engine
from server.scheduling.fair_queue import FairQueue
from server.scheduling.request import Piece, Request
from server.telemetry.metrics import Metrics

QUIET_ROUNDS = 10
"""Rounds of the event loop in which no request is submitted until it counts as idle; some 50 us where it is."""

log = structlog.get_logger()


class Run(NamedTuple):
    """One run of a batch: outputs of all rows, rows computed only as padding, start and duration."""

    outputs: Arrays
    padding: int
    started_s: float
    compute_s: float


class Batcher:
    """The queue in front of the engines of one process; to be made and used in its event loop."""

    def __init__(self, metrics: Metrics, fair_queue: FairQueue) -> None:
        self._metrics = metrics
        self._fair_queue = fair_queue
        self._lock = threading.Lock()
        self._idle = 0
        self._is_gathering = False
        self._quiet_rounds = 0
        self._doorbell: SimpleQueue[None] = SimpleQueue()
        self._engines: list[Engine] = []
        self._workers: list[threading.Thread] = []
        self._stopped: str | None = None
        self._failed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def start(self, engine: Engine, workers: int = 1) -> None:
        """Begin to run batches on `engine`, in threads of their own."""
        self._engines.append(engine)
        for number in range(workers):
            name = f"engine-{engine.device}-{number}"
            worker = threading.Thread(target=self._work, args=(engine,), name=name, daemon=True)
            self._workers.append(worker)
            worker.start()

    def submit(self, graph: Graph, inputs: Arrays, caller: Hashable, finish: Callable[[Request], None]) -> Request:
        """As `Queue.submit`."""
        count = len(next(iter(inputs.values())))
        request = Request(graph, inputs, count, caller, finish, time.monotonic())
        if self._stopped:
            self._loop.call_soon(_end, request, Unavailable(self._stopped))
            return request
        with self._lock:
            self._fair_queue.add(request)
        self._quiet_rounds = 0
        if not self._is_gathering:
            self._is_gathering = True
            self._loop.call_soon(self._gather)
        return request

    def cancel(self, request: Request) -> None:
        """As `Queue.cancel`."""
        if not request.is_ended:
            with self._lock:
                self._fair_queue.remove(request)

    async def failed(self) -> None:
        """Return when a worker has ended by itself, which only a bug can cause."""
        await self._failed.wait()

    async def stop(self, reason: str) -> None:
        """End the workers after their runs; every request that is not finished by then ends as unavailable."""
        with self._lock:
            self._stopped = reason
            waiting = list(self._fair_queue.waiting())
        for _ in self._workers:
            self._doorbell.put(None)
        await asyncio.gather(*(asyncio.to_thread(worker.join) for worker in self._workers))
        # The last runs were dealt out by callbacks that the loop got before this task.
        await asyncio.sleep(0)
        for request in waiting:
            _end(request, Unavailable(reason))

    def _gather(self) -> None:
        """Called in each round of the event loop until what was submitted is enough, or nothing more comes; then it runs."""
        self._quiet_rounds += 1
        with self._lock:
            if self._engines and self._quiet_rounds < QUIET_ROUNDS and not self._has_preferred_batch(self._engines[0]):
                self._loop.call_soon(self._gather)
                return
            self._is_gathering = False
            self._ring()

    def _has_preferred_batch(self, engine: Engine) -> bool:
        """Whether any graph's rows are worth a run; holds the lock."""
        waiting = self._fair_queue.waiting_rows()
        return any(rows >= engine.graphs[graph].cost.preferred_batch for graph, rows in waiting)

    def _ring(self) -> None:
        """Wake a worker that sleeps, if there is one; holds the lock."""
        if self._idle:
            self._idle -= 1
            self._doorbell.put(None)

    def _work(self, engine: Engine) -> None:
        """One worker's life: sleep while nothing waits, run batches otherwise."""
        try:
            while not self._stopped:
                with self._lock:
                    batch = self._take(engine)
                    if batch is None:
                        self._idle += 1
                if batch is None:
                    self._doorbell.get()
                else:
                    result = self._run(engine, *batch)
                    self._loop.call_soon_threadsafe(self._deal_out, engine.device, *batch, result)
        except Exception:
            log.exception("bug: a worker of the queue has ended")
            self._loop.call_soon_threadsafe(self._failed.set)

    def _take(self, engine: Engine) -> tuple[Graph, list[Piece]] | None:
        """The next batch, if anything waits; holds the lock."""
        turn = self._fair_queue.next_graph()
        if turn is None or (self._is_gathering and not self._has_preferred_batch(engine)):
            return None
        graph, waiting = turn
        rows = engine.graphs[graph].cost.choose_batch_size(waiting, self._idle)
        pieces = self._fair_queue.take(graph, rows)
        if self._fair_queue.next_graph():
            self._ring()
        return graph, pieces

    def _run(self, engine: Engine, graph: Graph, pieces: list[Piece]) -> Run | Exception:
        inputs = [{name: a[piece.start : piece.stop] for name, a in piece.request.inputs.items()} for piece in pieces]
        started_s = time.monotonic()
        try:
            outputs, padding = engine.graphs[graph].run(inputs)
            result: Run | Exception = Run(outputs, padding, started_s, time.monotonic() - started_s)
        except Exception as error:  # whatever the runtime raised, the queue goes on
            result = error
        with self._lock:
            self._fair_queue.charge(graph.model, time.monotonic() - started_s)
        return result

    def _deal_out(self, device: str, graph: Graph, pieces: list[Piece], result: Run | Exception) -> None:
        """Give each request its rows of a run, and its answer with the last of them."""
        size = sum(piece.stop - piece.start for piece in pieces)
        try:
            if isinstance(result, Exception):
                raise result
            _check_rows(result.outputs, size)
        except Exception as error:
            log.error("run failed", model=graph.model, images=size, exc_info=error)
            for piece in pieces:
                if not piece.request.is_ended:
                    self.cancel(piece.request)  # rows of it may still wait
                    failure = EngineFailed(f"the engine failed on a batch of {size}: {type(error).__name__}")
                    _finish(piece.request, failure)
            return
        self._observe(device, graph.model, size, result)
        row = 0
        for request, start, stop in pieces:
            rows = {name: array[row : row + stop - start] for name, array in result.outputs.items()}
            row += stop - start
            if not request.is_ended:
                self._give(request, start, rows, size, result)

    def _give(self, request: Request, start: int, rows: Arrays, size: int, run: Run) -> None:
        """Give a request rows start and on of its outputs; runs may end in another order than they began."""
        if not request.done:
            request.queue_s = run.started_s - request.queued_s
            request.batch_size = size
        request.parts.append((start, rows))
        request.compute_s += run.compute_s
        request.done += len(next(iter(rows.values())))
        if request.done == request.count:
            request.outputs = _joined(request.parts)
            _end(request, None)

    def _observe(self, device: str, model: str, size: int, run: Run) -> None:
        metrics = self._metrics
        metrics.batch_images.labels(model).observe(size)
        if "images" in run.outputs:
            metrics.images.labels(model).inc(size)
        metrics.stage_seconds.labels(model, "infer").observe(run.compute_s)
        metrics.engine_busy_seconds.labels(device).inc(run.compute_s)
        if run.padding:
            metrics.padding_images.labels(model).inc(run.padding)


def _check_rows(outputs: Arrays, size: int) -> None:
    if not outputs:
        raise ValueError("the engine gave nothing")
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != size:
            raise ValueError(f"{name}: the engine gave {array.shape} for {size} rows")


def _joined(parts: list[tuple[int, Arrays]]) -> Arrays:
    if len(parts) == 1:
        return parts[0][1]
    arrays = [rows for _, rows in sorted(parts, key=lambda part: part[0])]
    return {name: np.concatenate([rows[name] for rows in arrays]) for name in arrays[0]}


def _end(request: Request, error: ServingError | None) -> None:
    if not request.is_ended:
        request.is_ended = True
        _finish(request, error)


def _finish(request: Request, error: ServingError | None) -> None:
    """Tell whoever submitted a request that its outputs are there, or why not."""
    request.error = error
    try:
        request.finish(request)
    except Exception:  # whatever becomes of one request, the others of its batch get theirs
        log.exception("bug: a request could not be finished", model=request.graph.model)
