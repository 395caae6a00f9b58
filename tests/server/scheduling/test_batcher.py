"""The batcher with engines that double numbers: who gets what and when, what failures cost, and random histories of it."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from server.arrays import Arrays
from server.errors import EngineFailed, Unavailable
from server.models.graph import Graph
from server.scheduling.batcher import Batcher
from server.scheduling.fair_queue import FairQueue
from server.scheduling.request import Piece, Request
from server.telemetry.metrics import Metrics
from tests.fakes.engine import A2, TIMEOUT_S, A, B, DoublingEngine, FakeEngine, ask, batching, occupy, opened


class WatchedFairQueue(FairQueue):
    """Tells when a worker finds nothing to run: the lock that it holds is free again only once it counts as idle."""

    def __init__(self) -> None:
        super().__init__()
        self._found_nothing = threading.Semaphore(0)
        self._has_taken = False

    def next_graph(self) -> tuple[Graph, int] | None:
        turn = super().next_graph()
        is_worker = threading.current_thread().name.startswith("engine-")
        if turn is None and is_worker and not self._has_taken:
            self._found_nothing.release()
        self._has_taken = False
        return turn

    def take(self, graph: Graph, rows: int) -> list[Piece]:
        self._has_taken = True  # the worker looks once more, for others
        return super().take(graph, rows)

    async def found_nothing(self, times: int = 1) -> None:
        """Wait until workers have found nothing so many times more."""
        for _ in range(times):
            assert await asyncio.to_thread(self._found_nothing.acquire, timeout=TIMEOUT_S)


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged, which takes up to a second for each failed run where it is made fit for people."""
    with capture_logs() as logs:
        yield logs


async def test_every_request_gets_its_own_rows():
    async with batching(opened(DoublingEngine())) as batcher:
        asked = [[10 * n + i for i in range(n)] for n in range(1, 8)]
        answers = [ask(batcher, values) for values in asked]
        assert [await answer.values() for answer in answers] == [[2 * value for value in values] for values in asked]


async def test_a_batch_that_is_too_small_grows_while_more_requests_come_in():
    engine = DoublingEngine(preferred_batch=4, max_size=8)
    engine.gate.set()
    async with batching(engine) as batcher:
        answers = []
        for number in range(6):
            answers.append(ask(batcher, [number]))
            await asyncio.sleep(0)
        assert [await answer.values() for answer in answers] == [[2 * number] for number in range(6)]
    assert len(engine.batches[0]) >= 4
    assert [number for batch in engine.batches for number in batch] == list(range(6))


async def test_a_lone_request_does_not_wait_for_others():
    engine = opened(DoublingEngine())
    async with batching(engine) as batcher:
        assert await ask(batcher, [1]).values() == [2]
    assert engine.batches == [[1]]


async def test_what_piles_up_while_the_engine_runs_is_the_next_batch():
    engine = DoublingEngine()
    async with batching(engine) as batcher:
        first = await occupy(engine, batcher)
        rest = [ask(batcher, [n]) for n in (1, 2, 3)]
        engine.gate.set()
        for answer in (first, *rest):
            await answer.values()
    assert engine.batches == [[0], [1, 2, 3]]


async def test_what_is_submitted_in_one_round_of_the_event_loop_is_one_batch():
    engine, fair_queue = opened(DoublingEngine()), WatchedFairQueue()
    async with batching(engine, fair_queue=fair_queue) as batcher:
        await fair_queue.found_nothing()
        answers = [ask(batcher, [1]), ask(batcher, [2])]
        assert not engine.begun.acquire(timeout=0.05), "no run begins before the round is over"
        answers.append(ask(batcher, [3]))
        for answer in answers:
            await answer.values()
    assert engine.batches == [[1, 2, 3]]


async def test_what_is_submitted_before_an_engine_is_there_waits_for_it():
    engine = opened(DoublingEngine())
    async with batching() as batcher:
        answer = ask(batcher, [1, 2])
        batcher.start(engine)
        assert await answer.values() == [2, 4]


async def test_a_batch_that_is_too_small_runs_once_nothing_more_comes():
    engine = opened(DoublingEngine(preferred_batch=100, max_size=100))
    async with batching(engine) as batcher:
        assert await ask(batcher, [1]).values() == [2]
    assert engine.batches == [[1]]


async def test_what_is_submitted_rounds_before_an_engine_is_there_waits_for_it():
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    async with batching() as batcher:
        early = ask(batcher, [1, 2])
        for _ in range(3):
            await asyncio.sleep(0)
        assert not problems
        engine = opened(DoublingEngine(preferred_batch=4))
        batcher.start(engine)
        assert await early.values() == [2, 4]
        assert await ask(batcher, [3]).values() == [6]


async def test_a_batch_that_is_to_grow_does_not_hold_up_those_that_are_large_enough():
    engine = opened(DoublingEngine(preferred_batch=4))
    async with batching(engine) as batcher:
        ask(batcher, [0], graph=A)
        for number in range(50):
            ask(batcher, [number], graph=A2)
            await asyncio.sleep(0)
        assert engine.begun.acquire(timeout=2), "50 rows wait and nothing runs as long as more come in"


async def test_a_large_request_takes_turns_with_small_ones():
    engine = DoublingEngine(max_size=4)
    async with batching(engine) as batcher:
        await occupy(engine, batcher)
        bulk = ask(batcher, list(range(100, 112)), "bulk")
        small = ask(batcher, [1], "small")
        engine.gate.set()
        assert await bulk.values() == [2 * n for n in range(100, 112)]
        assert await small.values() == [2]
    assert engine.batches[1:3] == [[100, 101, 102, 1], [103, 104, 105, 106]]


async def test_graphs_take_turns_and_never_share_a_batch():
    engine = DoublingEngine(max_size=2)
    async with batching(engine) as batcher:
        await occupy(engine, batcher)
        answers = [ask(batcher, [n], graph=graph) for graph, n in ((A, 1), (A, 2), (A, 3), (A2, 10))]
        engine.gate.set()
        for answer in answers:
            await answer.values()
    assert engine.batches == [[0], [1, 2], [10], [3]]
    assert engine.graphs_run == [A, A, A2, A]


class Clock:
    """In place of the module `time`."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@dataclass
class SlowEngine(DoublingEngine):
    """Takes seconds of `clock` for each run of a model."""

    clock: Clock = field(default_factory=Clock)
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, graph: Graph, pieces: Sequence[Arrays]) -> tuple[Arrays, int]:
        outputs = super().run(graph, pieces)
        self.clock.now_s += self.seconds[graph.model]
        return outputs


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """What the batcher takes for the time."""
    clock = Clock()
    with monkeypatch.context() as patch:
        patch.setattr("server.scheduling.batcher.time", clock)
        yield clock


async def test_a_model_pays_for_its_runs_by_the_time_that_they_take(clock: Clock):
    engine = SlowEngine(max_size=1, clock=clock, seconds={"a": 1.0, "b": 4.0})
    async with batching(engine) as batcher:
        await occupy(engine, batcher)
        answers = [ask(batcher, list(range(40)), graph=graph) for graph in (A, B)]
        engine.gate.set()
        for answer in answers:
            await answer.values()
    runs = Counter(graph.model for graph in engine.graphs_run[:25])
    assert runs in ({"a": 20, "b": 5}, {"a": 21, "b": 4})


async def test_a_model_of_share_two_gets_twice_the_time(clock: Clock):
    engine = SlowEngine(max_size=1, clock=clock, seconds={"a": 1.0, "b": 1.0})
    async with batching(engine, fair_queue=FairQueue({"b": 2.0})) as batcher:
        await occupy(engine, batcher)
        answers = [ask(batcher, list(range(40)), graph=graph) for graph in (A, B)]
        engine.gate.set()
        for answer in answers:
            await answer.values()
    assert Counter(graph.model for graph in engine.graphs_run[:31]) == {"a": 11, "b": 20}


async def test_a_failed_run_is_charged_too(clock: Clock):
    class Failing(SlowEngine):
        def run(self, graph: Graph, pieces: Sequence[Arrays]) -> tuple[Arrays, int]:
            run = super().run(graph, pieces)
            if graph == A:
                raise RuntimeError("out of memory")
            return run

    engine = Failing(max_size=1, clock=clock, seconds={"a": 3.0, "b": 1.0})
    async with batching(engine) as batcher:
        await occupy(engine, batcher, graph=B)
        failing = [ask(batcher, [n], graph=A) for n in range(4)]
        answer = ask(batcher, list(range(20)), graph=B)
        engine.gate.set()
        await answer.values()
        for other in failing:
            with pytest.raises(EngineFailed):
                await other.values()
    assert Counter(graph.model for graph in engine.graphs_run[:12]) == {"a": 3, "b": 9}


async def test_a_request_knows_how_long_it_waited_and_ran(clock: Clock):
    engine = SlowEngine(max_size=4, clock=clock, seconds={"a": 2.0})
    async with batching(engine) as batcher:
        await occupy(engine, batcher)
        clock.now_s += 5
        answer = ask(batcher, list(range(6)))
        engine.gate.set()
        await answer.values()
    assert answer.request.queue_s == 2.0, "until its first run began"
    assert answer.request.compute_s == 4.0, "of both its runs"
    assert answer.request.batch_size == 4, "of its first run"


async def test_a_worker_is_woken_for_the_rest_when_several_are_idle():
    engine, fair_queue = DoublingEngine(max_size=2), WatchedFairQueue()
    async with batching(engine, workers=3, fair_queue=fair_queue) as batcher:
        await fair_queue.found_nothing(3)
        answer = ask(batcher, list(range(5)))
        for _ in range(3):
            await engine.begins()
        assert sorted(engine.batches) == [[0, 1], [2, 3], [4]], "in three runs at the same time"
        engine.gate.set()
        assert await answer.values() == [0, 2, 4, 6, 8]


async def test_an_engine_is_told_how_many_workers_are_idle():
    engine, fair_queue = DoublingEngine(max_size=2), WatchedFairQueue()
    async with batching(engine, workers=3, fair_queue=fair_queue) as batcher:
        await fair_queue.found_nothing(3)
        ask(batcher, list(range(5)))
        for _ in range(3):
            await engine.begins()
    assert engine.asked == [(5, 2), (3, 1), (1, 0)]


async def test_workers_that_found_nothing_are_woken_again_and_again():
    engine, fair_queue = opened(DoublingEngine()), WatchedFairQueue()
    async with batching(engine, workers=2, fair_queue=fair_queue) as batcher:
        await fair_queue.found_nothing(2)
        for n in range(20):
            assert await ask(batcher, [n]).values() == [2 * n]
            await fair_queue.found_nothing()
    assert engine.batches == [[n] for n in range(20)]


async def test_engines_take_from_one_queue():
    slow, fast = DoublingEngine("slow"), DoublingEngine("fast", max_size=3)
    async with batching(slow) as batcher:
        held = await occupy(slow, batcher)
        batcher.start(opened(fast))
        answer = ask(batcher, list(range(9)))
        assert await answer.values() == [2 * n for n in range(9)]
        assert not held.outcomes
    assert slow.batches == [[0]]
    assert fast.batches == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


async def test_runs_that_end_in_another_order_than_they_began_give_rows_in_order():
    first, second = DoublingEngine("first", max_size=2), DoublingEngine("second", max_size=3)
    async with batching(first) as batcher:
        large = ask(batcher, [1, 2, 3, 4], "large")
        await first.begins()
        small = ask(batcher, [10], "small")
        batcher.start(opened(second))
        assert await small.values() == [20]
        assert not large.outcomes, "its later rows are done, its first ones are not"
        first.gate.set()
        assert await large.values() == [2, 4, 6, 8]
    assert first.batches == [[1, 2]]
    assert sorted(second.batches[0]) == [3, 4, 10]


async def test_a_cancelled_request_is_not_computed():
    engine = DoublingEngine()
    async with batching(engine) as batcher:
        await occupy(engine, batcher)
        given_up, waiting = ask(batcher, [1, 2]), ask(batcher, [3, 4])
        batcher.cancel(given_up.request)
        engine.gate.set()
        assert await waiting.values() == [6, 8]
    assert engine.batches == [[0], [3, 4]]
    assert not given_up.outcomes


async def test_a_request_that_is_cancelled_while_it_runs_is_never_finished_and_runs_no_further():
    engine = DoublingEngine(max_size=2)
    async with batching(engine) as batcher:
        given_up = ask(batcher, [1, 2, 3, 4, 5])
        await engine.begins()
        batcher.cancel(given_up.request)
        other = ask(batcher, [6])
        engine.gate.set()
        assert await other.values() == [12]
    assert engine.batches == [[1, 2], [6]]
    assert not given_up.outcomes


async def test_cancelling_a_finished_request_changes_nothing():
    async with batching(opened(DoublingEngine())) as batcher:
        answer = ask(batcher, [1])
        await answer.values()
        batcher.cancel(answer.request)
        assert await ask(batcher, [2]).values() == [4]
    assert len(answer.outcomes) == 1


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), MemoryError(), KeyError("noise")])
async def test_a_failed_run_ends_its_requests_and_not_the_queue(error: Exception):
    engine = opened(DoublingEngine(error=error))
    async with batching(engine) as batcher:
        with pytest.raises(EngineFailed, match=f"batch of 1: {type(error).__name__}"):
            await ask(batcher, [1]).values()
        engine.error = None
        assert await ask(batcher, [1]).values() == [2]


async def test_a_failed_run_is_logged_once(logs: list[MutableMapping[str, Any]]):
    error = RuntimeError("out of memory")
    async with batching(opened(DoublingEngine(error=error))) as batcher:
        answers = [ask(batcher, [1], "a"), ask(batcher, [2, 3], "b")]
        for answer in answers:
            with pytest.raises(EngineFailed):
                await answer.values()
    assert sum(entry["images"] for entry in logs) == 3
    assert all((entry["event"], entry["model"], entry["exc_info"]) == ("run failed", "a", error) for entry in logs)


async def test_a_failed_run_ends_all_requests_that_it_held():
    engine = DoublingEngine(error=RuntimeError("out of memory"))
    async with batching(engine) as batcher:
        answers = [await occupy(engine, batcher), *(ask(batcher, [n]) for n in range(4))]
        engine.gate.set()
        for answer in answers:
            with pytest.raises(EngineFailed):
                await answer.values()
    assert engine.batches == [[0], [0, 1, 2, 3]]


async def test_a_failed_batch_ends_a_request_of_which_rows_still_wait_and_those_never_run():
    class FailingAtOnce(DoublingEngine):
        def run(self, graph: Graph, pieces: Sequence[Arrays]) -> tuple[Arrays, int]:
            if graph == A:
                self.batches.append([float(value) for piece in pieces for value in piece["x"]])
                raise RuntimeError("out of memory")
            return super().run(graph, pieces)

    engine = FailingAtOnce(max_size=2)
    async with batching() as batcher:
        large, other = ask(batcher, [1, 2, 3, 4, 5], graph=A), ask(batcher, [10], graph=A2)
        batcher.start(engine)
        await engine.begins()
        with pytest.raises(EngineFailed, match="batch of 2"):
            await large.values()
        engine.gate.set()
        assert await other.values() == [20]
        assert await ask(batcher, [11], graph=A2).values() == [22]
    assert engine.batches == [[1, 2], [10], [11]]


async def test_a_request_that_cannot_be_finished_costs_its_batch_nothing(logs: list[MutableMapping[str, Any]]):
    def break_down(_: object) -> None:
        raise ZeroDivisionError("a bug")

    engine = DoublingEngine()
    async with batching(engine) as batcher:
        await occupy(engine, batcher)
        batcher.submit(A, {"x": np.array([1.0], np.float32)}, "me", break_down)
        other = ask(batcher, [2])
        engine.gate.set()
        assert await other.values() == [4]
    assert engine.batches[-1] == [1, 2]
    assert [entry["event"] for entry in logs] == ["bug: a request could not be finished"]


class Nonsense(DoublingEngine):
    """Gives `outputs` in its first run."""

    outputs: object = None

    def run(self, graph: Graph, pieces: Sequence[Arrays]) -> tuple[Arrays, int]:
        run = super().run(graph, pieces)
        return run if len(self.batches) > 1 else run._replace(outputs=self.outputs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "outputs",
    [
        {"y": np.float32(1)},
        {"y": np.zeros(1, np.float32)},
        {"y": np.zeros(3, np.float32)},
        {"y": np.zeros(2, np.float32), "z": np.zeros((1, 2), np.float32)},
        {"y": [1.0, 2.0]},
        None,
        {},
    ],
    ids=["scalar", "too-few-rows", "too-many-rows", "one-of-two", "list", "nothing", "no-outputs"],
)
async def test_a_run_that_returns_nonsense_ends_its_requests_and_not_the_queue(outputs: object):
    engine = Nonsense()
    engine.outputs = outputs
    async with batching(engine) as batcher:
        confused = ask(batcher, [1, 2])
        await engine.begins()
        other = ask(batcher, [1])
        engine.gate.set()
        assert await other.values() == [2]
        [outcome] = confused.outcomes
        assert isinstance(outcome, EngineFailed)
        assert "batch of 2" in str(outcome)


async def test_a_stopped_queue_ends_every_request():
    engine = DoublingEngine(max_size=4)
    async with batching() as batcher:
        running, begun = ask(batcher, [1], "a"), ask(batcher, list(range(9)), "b")
        batcher.start(engine)
        await engine.begins()
        waiting, given_up = ask(batcher, [2]), ask(batcher, [3])
        batcher.cancel(given_up.request)
        stopping = asyncio.create_task(batcher.stop("the server has stopped"))
        await asyncio.sleep(0)
        engine.gate.set()
        async with asyncio.timeout(TIMEOUT_S):
            await stopping
        assert [len(answer.outcomes) for answer in (running, begun, waiting, given_up)] == [1, 1, 1, 0]
        assert await running.values() == [2], "the run in progress is finished"
        for answer in (begun, waiting):
            with pytest.raises(Unavailable, match="the server has stopped"):
                await answer.values()
    assert len(engine.batches) == 1, "no other run begins"


async def test_a_request_that_is_submitted_after_stop_ends_as_unavailable():
    engine = opened(DoublingEngine())
    async with batching(engine) as batcher:
        await batcher.stop("the server has stopped")
        answer, given_up = ask(batcher, [1]), ask(batcher, [2])
        batcher.cancel(given_up.request)
        assert not answer.outcomes, "finish is called by the event loop, not by submit"
        with pytest.raises(Unavailable, match="the server has stopped"):
            await answer.values()
    assert not given_up.outcomes
    assert not engine.batches


async def test_stop_ends_the_workers():
    engines = [DoublingEngine("to-be-stopped"), DoublingEngine("to-be-stopped-too")]
    async with batching(*engines, workers=3):
        assert len(worker_names("to-be-stopped")) == 6
    assert not worker_names("to-be-stopped")


def worker_names(device: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(f"engine-{device}")]


async def test_a_worker_that_ends_by_a_bug_is_told_and_stop_ends_its_requests():
    class Buggy(DoublingEngine):
        def choose_batch_size(self, waiting: int, idle: int) -> int:
            raise ZeroDivisionError

    async with batching(Buggy()) as batcher:
        failing = asyncio.create_task(batcher.failed())
        answer = ask(batcher, [1])
        async with asyncio.timeout(TIMEOUT_S):
            await failing
            await batcher.stop("the server has stopped")
        with pytest.raises(Unavailable):
            await answer.values()


async def test_runs_are_counted(clock: Clock):
    class Padding(SlowEngine):
        def run(self, graph: Graph, pieces: Sequence[Arrays]) -> tuple[Arrays, int]:
            return super().run(graph, pieces)[0], 3

    engine, metrics = Padding("cpu", output="images", clock=clock, seconds={"a": 0.25}), Metrics()

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"figment_{name}", labels)

    async with batching(engine, metrics=metrics) as batcher:
        first = await occupy(engine, batcher)
        rest = ask(batcher, [1, 2, 3])
        engine.gate.set()
        await first.values()
        await rest.values()
        engine.output = "latent"
        await ask(batcher, [4, 5]).values()
    assert value("batch_images_count", model="a") == 3
    assert value("batch_images_sum", model="a") == 6
    assert value("images_total", model="a") == 4, "latents are no images"
    assert value("padding_images_total", model="a") == 9
    assert value("stage_seconds_count", model="a", stage="infer") == 3
    assert value("stage_seconds_sum", model="a", stage="infer") == 0.75
    assert value("engine_busy_seconds_total", device="cpu") == 0.75


async def test_a_failed_run_is_not_counted():
    engine, metrics = opened(DoublingEngine(error=RuntimeError("out of memory"))), Metrics()
    async with batching(engine, metrics=metrics) as batcher:
        with pytest.raises(EngineFailed):
            await ask(batcher, [1]).values()
    assert metrics.registry.get_sample_value("figment_batch_images_count", {"model": "a"}) is None


@dataclass(eq=False)
class HeldRun:
    """A run that ends when the history says so."""

    graph: Graph
    rows: list[tuple[int, int]]
    fails: bool
    gate: threading.Event = field(default_factory=threading.Event)


class History:
    """The runs of all engines and the answers to all requests of one random history; `changed` at either."""

    def __init__(self, failing: set[int], *, is_open: bool) -> None:
        self.runs: list[HeldRun] = []
        self.answers: list[NumberedAnswer] = []
        self.changed = asyncio.Event()
        self._failing = failing
        self._is_open = is_open
        self._held: list[HeldRun] = []
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()

    def begin(self, graph: Graph, rows: list[tuple[int, int]]) -> HeldRun:
        """Note a run, which waits for its release."""
        with self._lock:
            run = HeldRun(graph, rows, fails=len(self.runs) in self._failing)
            self.runs.append(run)
            if self._is_open:
                run.gate.set()
            else:
                self._held.append(run)
        self._loop.call_soon_threadsafe(self.changed.set)
        return run

    async def release(self, number: int) -> None:
        """Let one of the runs in progress end; wait for one, unless nothing is left to run."""
        while not self._is_open:
            self.changed.clear()
            with self._lock:
                if self._held:
                    self._held.pop(number % len(self._held)).gate.set()
                    return
            if not any(answer.is_awaited for answer in self.answers):
                return
            await self.changed.wait()

    async def until_all_ended(self) -> None:
        while any(answer.is_awaited for answer in self.answers):
            self.changed.clear()
            await self.changed.wait()

    def open(self) -> None:
        """Hold no runs any more."""
        with self._lock:
            self._is_open = True
            for run in self._held:
                run.gate.set()


class NumberedAnswer:
    """A request whose inputs are its number and the numbers of its rows."""

    def __init__(self, batcher: Batcher, history: History, graph: Graph, caller: int, count: int) -> None:
        self.outcomes: list[Arrays | Exception] = []
        self.given_up_at: tuple[int, int] | None = None
        self._history = history
        number = len(history.answers)
        history.answers.append(self)
        inputs = {"row": np.arange(count), "number": np.full((count, 2), number)}
        self.request = batcher.submit(graph, inputs, caller, self._finish)

    @property
    def is_awaited(self) -> bool:
        return not self.outcomes and self.given_up_at is None

    def give_up(self, batcher: Batcher) -> None:
        batcher.cancel(self.request)
        if self.given_up_at is None:
            self.given_up_at = self.request.taken, len(self.outcomes)

    def _finish(self, request: Request) -> None:
        self.outcomes.append(request.error or request.outputs)
        self._history.changed.set()


class HistoricEngine(FakeEngine):
    """Returns its inputs, once the history lets it."""

    def __init__(self, number: int, max_size: int, history: History) -> None:
        self.device = f"historic-{number}"
        self._max_size = self.preferred_batch = max_size
        self._history = history

    def choose_batch_size(self, waiting: int, idle: int) -> int:
        return min(self._max_size, -(-waiting // (idle + 1)))

    def run(self, graph: Graph, pieces: Sequence[Arrays]) -> tuple[Arrays, int]:
        joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
        rows = list(zip(joined["number"][:, 0].tolist(), joined["row"].tolist(), strict=True))
        assert len(rows) <= self._max_size
        run = self._history.begin(graph, rows)
        assert run.gate.wait(TIMEOUT_S)
        if run.fails:
            raise RuntimeError("out of memory")
        return joined, 0


SUBMIT = st.tuples(st.just("submit"), st.sampled_from([A, A2, B]), st.integers(0, 2), st.integers(1, 12))
GIVE_UP = st.tuples(st.just("give up"), st.integers(0, 99))
RELEASE = st.tuples(st.just("release"), st.integers(0, 99))
BREATHE = st.tuples(st.just("breathe"))


@given(
    steps=st.lists(st.one_of(SUBMIT, SUBMIT, GIVE_UP, RELEASE, RELEASE, BREATHE), max_size=40),
    engines=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 3)), min_size=1, max_size=2),
    failing=st.sets(st.integers(0, 15), max_size=3),
    is_open=st.booleans(),
    stops_early=st.booleans(),
)
# No shrinking: where a request never ends, each step of it would take the whole timeout.
@settings(max_examples=80, deadline=None, database=None, phases=[Phase.generate])
def test_whatever_happens_every_request_ends_once_with_its_own_rows_or_the_right_error(
    steps: list[tuple], engines: list[tuple[int, int]], failing: set[int], is_open: bool, stops_early: bool
):
    """engines: largest batch and workers of each; failing: numbers of runs; is_open: runs end without a release."""
    history = asyncio.run(lived(steps, engines, failing, is_open, stops_early))
    assert not worker_names("historic")
    computed = Counter(row for run in history.runs for row in run.rows)
    assert set(computed.values()) <= {1}, "no row is computed twice"
    for run in history.runs:
        assert {history.answers[number].request.graph for number, _ in run.rows} == {run.graph}
    failed = {number for run in history.runs if run.fails for number, _ in run.rows}
    for number, answer in enumerate(history.answers):
        request = answer.request
        assert sorted(row for other, row in computed if other == number) == list(range(request.taken))
        if answer.given_up_at:
            assert answer.given_up_at == (request.taken, len(answer.outcomes)), "as it was when it was given up"
            assert len(answer.outcomes) <= 1
            continue
        [outcome] = answer.outcomes
        if number in failed:
            assert isinstance(outcome, EngineFailed)
        elif isinstance(outcome, Exception):
            assert isinstance(outcome, Unavailable)
            assert stops_early
            assert request.taken < request.count
        else:
            assert outcome["row"].tolist() == list(range(request.count))
            assert outcome["number"].tolist() == [[number, number]] * request.count


async def lived(
    steps: list[tuple], engines: list[tuple[int, int]], failing: set[int], is_open: bool, stops_early: bool
) -> History:
    """The history after `steps`, with the queue stopped."""
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    history = History(failing, is_open=is_open)
    batcher = Batcher(Metrics(), FairQueue())
    for number, (max_size, workers) in enumerate(engines):
        batcher.start(HistoricEngine(number, max_size, history), workers)
    async with asyncio.timeout(TIMEOUT_S):
        try:
            for kind, *how in steps:
                if kind == "submit":
                    NumberedAnswer(batcher, history, *how)
                elif kind == "give up" and history.answers:
                    history.answers[how[0] % len(history.answers)].give_up(batcher)
                elif kind == "release":
                    await history.release(how[0])
                elif kind == "breathe":
                    await asyncio.sleep(0)
            if not stops_early:
                history.open()
                await history.until_all_ended()
        finally:
            stopping = asyncio.create_task(batcher.stop("stopped"))
            await asyncio.sleep(0)
            history.open()
            await stopping
    assert not problems
    return history
