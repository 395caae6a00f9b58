"""An engine that doubles numbers, and a batcher in front of it: for tests of who is computed when."""

import asyncio
import threading
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from server.arrays import Arrays
from server.models.graph import Graph
from server.scheduling.batcher import Batcher
from server.scheduling.engine import LoadedGraph
from server.scheduling.fair_queue import FairQueue
from server.scheduling.request import Request
from server.telemetry.metrics import Metrics

TIMEOUT_S = 10
"""For what must happen and has no reason to take long."""

A, A2, B = Graph("a", "1", "generator"), Graph("a", "1", "encoder"), Graph("b", "1", "generator")


class FakeEngine:
    """Runs any graph by `run`, and is itself what its graphs cost."""

    preferred_batch: int

    @property
    def graphs(self) -> "FakeEngine":
        return self

    def __getitem__(self, graph: Graph) -> LoadedGraph:
        return LoadedGraph(partial(self.run, graph), self)

    def choose_batch_size(self, waiting: int, idle: int) -> int:
        raise NotImplementedError

    def run(self, graph: Graph, pieces: Sequence[Arrays]) -> tuple[Arrays, int]:
        raise NotImplementedError


@dataclass
class DoublingEngine(FakeEngine):
    """Doubles `x`; a run ends when `gate` is open. Remembers its batches and what it was asked about rows.

    error    raised by every run
    output   name of what it gives
    """

    device: str = "fake"
    max_size: int = 4
    error: Exception | None = None
    output: str = "y"
    gate: threading.Event = field(default_factory=threading.Event)
    batches: list[list[float]] = field(default_factory=list)
    graphs_run: list[Graph] = field(default_factory=list)
    preferred_batch: int = 1
    asked: list[tuple[int, int]] = field(default_factory=list)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def choose_batch_size(self, waiting: int, idle: int) -> int:
        self.asked.append((waiting, idle))
        return min(waiting, self.max_size)

    def run(self, graph: Graph, pieces: Sequence[Arrays]) -> tuple[Arrays, int]:
        x = np.concatenate([piece["x"] for piece in pieces])
        self.graphs_run.append(graph)
        self.batches.append(x.tolist())
        self.begun.release()
        assert self.gate.wait(TIMEOUT_S)
        if self.error:
            raise self.error
        return {self.output: 2 * x}, 0

    async def begins(self) -> None:
        """Wait until one more run has begun."""
        assert await asyncio.to_thread(self.begun.acquire, timeout=TIMEOUT_S)


class Answer:
    """A request for the doubles of numbers and every outcome that it was given."""

    def __init__(self, batcher: Batcher, values: Sequence[float], caller: Hashable, graph: Graph) -> None:
        self.outcomes: list[Arrays | Exception] = []
        self._ended = asyncio.Event()
        self.request = batcher.submit(graph, {"x": np.array(values, np.float32)}, caller, self._finish)

    async def values(self) -> list[float]:
        async with asyncio.timeout(TIMEOUT_S):
            await self._ended.wait()
        [outcome] = self.outcomes
        if isinstance(outcome, Exception):
            raise outcome
        [doubles] = outcome.values()
        return doubles.tolist()

    def _finish(self, request: Request) -> None:
        self.outcomes.append(request.error or request.outputs)
        self._ended.set()


@asynccontextmanager
async def batching(
    *engines: DoublingEngine, workers: int = 1, fair_queue: FairQueue | None = None, metrics: Metrics | None = None
) -> AsyncIterator[Batcher]:
    """A queue in front of `engines`, whose gates open in the end."""
    batcher = Batcher(metrics or Metrics(), fair_queue or FairQueue())
    for engine in engines:
        batcher.start(engine, workers)
    try:
        yield batcher
    finally:
        for engine in engines:
            engine.gate.set()
        async with asyncio.timeout(TIMEOUT_S):
            await batcher.stop("stopped")


def ask(batcher: Batcher, values: Sequence[float], caller: Hashable = "me", graph: Graph = A) -> Answer:
    return Answer(batcher, values, caller, graph)


async def occupy(engine: DoublingEngine, batcher: Batcher, graph: Graph = A) -> Answer:
    """A request that is in the engine, which waits at its gate; whatever comes now piles up."""
    answer = ask(batcher, [0], graph=graph)
    await engine.begins()
    return answer


def opened(engine: DoublingEngine) -> DoublingEngine:
    engine.gate.set()
    return engine
