"""The batcher with an engine that doubles numbers: who gets what, when places are free again, what failures cost."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import numpy as np
import pytest

from server.batcher import Arrays, Batcher, Graph, Run
from server.errors import EngineFailed, Rejected, Unavailable
from server.metrics import Metrics


@dataclass(eq=False)
class NamedGraph:
    model: str = "doubling"


@dataclass
class DoublingEngine:
    """Doubles `x`; runs only while `gate` is open, and remembers the sizes of its batches."""

    device: str = "none"
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    batches: list[list[float]] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None

    async def run(self, graph: Graph, pieces: Sequence[Arrays]) -> Run:
        x = np.concatenate([piece["x"] for piece in pieces])
        self.batches.append(x.tolist())
        self.started.set()
        await self.gate.wait()
        if self.error:
            raise self.error
        return Run({"y": 2 * x}, 0, 0.0, 0.001)


@asynccontextmanager
async def batching(engine: DoublingEngine, max_size: int = 4, queue_images: int = 32) -> AsyncIterator[Batcher]:
    batcher = Batcher(engine, Metrics(), max_size, queue_images)
    working = asyncio.create_task(batcher.work())
    try:
        yield batcher
    finally:
        engine.gate.set()
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working


async def ask(batcher: Batcher, graph: Graph, values: Sequence[float]) -> list[float]:
    with batcher.admit(graph.model, len(values)) as place:
        outputs = await place.run(graph, {"x": np.array(values, np.float32)})
    return outputs["y"].tolist()


async def occupy(engine: DoublingEngine, batcher: Batcher, graph: Graph) -> "asyncio.Task[list[float]]":
    """A request that is in the engine, which waits at its gate; whatever comes now piles up."""
    task = asyncio.create_task(ask(batcher, graph, [0]))
    await engine.started.wait()
    return task


async def test_every_request_gets_its_own_rows():
    engine, graph = DoublingEngine(), NamedGraph()
    engine.gate.set()
    async with batching(engine) as batcher:
        asked = [[10 * n + i for i in range(n)] for n in range(1, 8)]
        answers = await asyncio.gather(*(ask(batcher, graph, values) for values in asked))
    assert answers == [[2 * value for value in values] for values in asked]


async def test_a_lone_request_does_not_wait_for_others():
    engine, graph = DoublingEngine(), NamedGraph()
    engine.gate.set()
    async with batching(engine) as batcher:
        assert await ask(batcher, graph, [1]) == [2]
    assert engine.batches == [[1]]


async def test_what_piles_up_while_the_engine_runs_is_the_next_batch():
    engine, graph = DoublingEngine(), NamedGraph()
    async with batching(engine) as batcher:
        first = await occupy(engine, batcher, graph)
        rest = [asyncio.create_task(ask(batcher, graph, [n])) for n in (1, 2, 3)]
        await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(first, *rest)
    assert engine.batches == [[0], [1, 2, 3]]


async def test_a_large_request_takes_turns_with_small_ones():
    engine, graph = DoublingEngine(), NamedGraph()
    async with batching(engine, max_size=4) as batcher:
        first = await occupy(engine, batcher, graph)
        bulk = asyncio.create_task(ask(batcher, graph, list(range(100, 112))))
        await asyncio.sleep(0)
        small = asyncio.create_task(ask(batcher, graph, [1]))
        await asyncio.sleep(0)
        engine.gate.set()
        assert await bulk == [2 * n for n in range(100, 112)]
        await asyncio.gather(first, small)
    assert engine.batches[1:3] == [[100, 101, 102, 103], [1, 104, 105, 106]]


async def test_graphs_take_turns_and_never_share_a_batch():
    engine, a, b = DoublingEngine(), NamedGraph("a"), NamedGraph("b")
    async with batching(engine, max_size=2) as batcher:
        first = await occupy(engine, batcher, a)
        tasks = [asyncio.create_task(ask(batcher, graph, [n])) for graph, n in ((a, 1), (a, 2), (a, 3), (b, 10))]
        await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(first, *tasks)
    assert engine.batches == [[0], [1, 2], [10], [3]]


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_again():
    engine, graph = DoublingEngine(), NamedGraph()
    async with batching(engine, queue_images=4) as batcher:
        with batcher.admit("doubling", 3), pytest.raises(Rejected) as refused:
            batcher.admit("doubling", 2)
        assert "3 of 4 images are admitted, 2 more do not fit" in str(refused.value)
        assert refused.value.retry_after_s > 0
        with batcher.admit("doubling", 4):
            pass
    assert engine.batches == []
    assert batcher._metrics.rejected.labels(graph.model, "queue_full")._value.get() == 1


async def test_a_cancelled_request_frees_its_place_and_is_not_computed():
    engine, graph = DoublingEngine(), NamedGraph()
    async with batching(engine, queue_images=3) as batcher:
        first = await occupy(engine, batcher, graph)
        given_up = asyncio.create_task(ask(batcher, graph, [1, 2]))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait({given_up})
        waiting = asyncio.create_task(ask(batcher, graph, [3, 4]))
        await asyncio.sleep(0)
        engine.gate.set()
        assert await waiting == [6, 8]
        await first
    assert engine.batches == [[0], [3, 4]]


async def test_a_failed_run_ends_its_requests_and_not_the_queue():
    engine, graph = DoublingEngine(error=RuntimeError("out of memory")), NamedGraph()
    engine.gate.set()
    async with batching(engine) as batcher:
        with pytest.raises(EngineFailed, match="batch of 1"):
            await ask(batcher, graph, [1])
        engine.error = None
        assert await ask(batcher, graph, [1]) == [2]


async def test_a_run_that_returns_nonsense_ends_its_requests_and_not_the_queue():
    class Confused(DoublingEngine):
        async def run(self, graph: Graph, pieces: Sequence[Arrays]) -> Run:
            run = await super().run(graph, pieces)
            return run if len(self.batches) > 1 else run._replace(outputs={"y": np.float32(1)})

    engine, graph = Confused(), NamedGraph()
    engine.gate.set()
    async with batching(engine) as batcher:
        with pytest.raises(EngineFailed, match="batch of 2"):
            await ask(batcher, graph, [1, 2])
        assert await ask(batcher, graph, [1]) == [2]


async def test_a_closed_queue_finishes_what_it_admitted_and_admits_no_more():
    engine, graph = DoublingEngine(), NamedGraph()
    async with batching(engine) as batcher:
        first = await occupy(engine, batcher, graph)
        batcher.close("draining")
        with pytest.raises(Unavailable, match="draining"):
            batcher.admit("doubling", 1)
        engine.gate.set()
        assert await first == [0]


async def test_a_stopped_queue_ends_every_request():
    engine, graph = DoublingEngine(), NamedGraph()
    batcher = Batcher(engine, Metrics(), max_size=4, queue_images=32)
    working = asyncio.create_task(batcher.work())
    running = await occupy(engine, batcher, graph)
    waiting = asyncio.create_task(ask(batcher, graph, [1]))
    await asyncio.sleep(0)
    place = batcher.admit("doubling", 1)
    working.cancel()
    for task in (running, waiting):
        with pytest.raises(Unavailable, match="stopped"):
            await task
    with place, pytest.raises(Unavailable, match="stopped"):
        await place.run(graph, {"x": np.zeros(1, np.float32)})
    assert batcher._admitted_images == 0
