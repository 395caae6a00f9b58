"""The pipeline's runs: what comes back from a queue, what a run's end frees, and whom nobody waits for any more."""

import asyncio

import numpy as np
import pytest

from figment.v1.images_pb2 import Timing
from server.arrays import Arrays
from server.errors import EngineFailed, Rejected, ServingError, Unavailable
from server.models.graph import Graph
from server.rpc.pipeline import Pipeline, timing
from server.scheduling.request import Queue, Request
from tests.fakes.admission import PatientQueue, WatchedAdmission, admitting, fits, value
from tests.fakes.engine import DoublingEngine, ask, batching, occupy, opened

GRAPH = Graph("a", "1", "generator")


def pipeline_before(queue: Queue, queue_images: int = 4) -> tuple[Pipeline, WatchedAdmission]:
    admission = admitting(queue_images)
    return Pipeline(queue, admission, admission.metrics), admission


def numbers(count: int) -> Arrays:
    return {"x": np.arange(count, dtype=np.float32)}


async def begun(pipeline: Pipeline, count: int) -> "asyncio.Task[Request]":
    """A run that waits in the queue."""
    task = asyncio.create_task(pipeline.run(GRAPH, numbers(count), "me"))
    await asyncio.sleep(0)
    return task


async def test_a_closed_queue_finishes_what_it_admitted():
    engine = DoublingEngine()
    async with batching(engine) as batcher:
        pipeline, admission = pipeline_before(batcher)
        with admission.reserve("a", 2):
            running = asyncio.create_task(pipeline.run(GRAPH, numbers(2), "me"))
            await engine.begins()
            admission.close("draining")
            engine.gate.set()
            assert (await running).outputs["y"].tolist() == [0, 2]
            assert (await pipeline.run(GRAPH, numbers(2), "me")).outputs["y"].tolist() == [0, 2], "its next stage too"


async def test_runs_give_the_outputs_of_their_rows():
    async with batching(opened(DoublingEngine())) as batcher:
        pipeline, admission = pipeline_before(batcher)
        with admission.reserve("a", 4):
            assert (await pipeline.run(GRAPH, numbers(4), "me")).outputs["y"].tolist() == [0, 2, 4, 6]
            assert (await pipeline.run(GRAPH, numbers(1), "me")).outputs["y"].tolist() == [0]


async def test_the_queue_is_told_whose_rows_they_are():
    queue = PatientQueue()
    pipeline, _ = pipeline_before(queue)
    running = asyncio.create_task(pipeline.run(GRAPH, numbers(1), "ipv4:10.0.0.1:5"))
    await asyncio.sleep(0)
    queue.end(0, {"y": np.zeros(1)})
    await running
    [request] = queue.submitted
    assert (request.graph, request.caller, request.count) == (GRAPH, "ipv4:10.0.0.1:5", 1)


async def test_a_reply_sums_up_what_its_runs_took():
    queue = PatientQueue()
    pipeline, admission = pipeline_before(queue)
    with admission.reserve("a", 1):
        for number, (queue_s, compute_s, batch_size) in enumerate([(0.5, 0.25, 7), (2.0, 1.0, 3)]):
            running = await begun(pipeline, 1)
            request = queue.submitted[number]
            request.queue_s, request.compute_s, request.batch_size = queue_s, compute_s, batch_size
            queue.end(number, {"y": np.zeros(1)})
            await running
    assert timing(*queue.submitted, encode_s=0.125) == Timing(queue_s=2.5, compute_s=1.25, encode_s=0.125, batch_size=7)
    assert value(admission, "stage_seconds_count", model="a", stage="queue") == 2
    assert value(admission, "stage_seconds_sum", model="a", stage="queue") == 2.5


@pytest.mark.parametrize("error", [EngineFailed("the engine failed"), Unavailable("stopped")])
async def test_what_ends_a_run_with_an_error_frees_its_room(error: ServingError):
    queue = PatientQueue()
    pipeline, admission = pipeline_before(queue)

    async def draw() -> Arrays:
        with admission.reserve("a", 4):
            return await pipeline.run(GRAPH, numbers(4), "me")

    params = asyncio.create_task(draw())
    await asyncio.sleep(0)
    assert value(admission, "queue_images", model="a") == 4
    queue.end(0, error)
    with pytest.raises(type(error), match=str(error)):
        await params
    assert value(admission, "queue_images", model="a") == 0
    assert fits(admission, 4)
    assert not queue.cancelled, "the queue has ended it by itself"


async def test_a_cancelled_request_frees_its_room_and_is_not_computed():
    engine = DoublingEngine()
    async with batching(engine) as batcher:
        pipeline, admission = pipeline_before(batcher, 3)
        first = await occupy(engine, batcher)

        async def draw() -> Arrays:
            with admission.reserve("a", 3):
                return await pipeline.run(GRAPH, {"x": np.array([7, 8, 9], np.float32)}, "me")

        given_up = asyncio.create_task(draw())
        await asyncio.sleep(0)
        assert not fits(admission, 1)
        given_up.cancel()
        await asyncio.wait({given_up})
        assert given_up.cancelled()
        assert fits(admission, 3)
        other = ask(batcher, [3, 4])
        engine.gate.set()
        assert await other.values() == [6, 8]
        assert await first.values() == [0]
    assert engine.batches == [[0], [3, 4]]
    assert value(admission, "queue_images", model="a") == 0


async def test_a_request_that_is_cancelled_while_it_runs_frees_its_room_at_once():
    engine = DoublingEngine(max_size=2)
    async with batching(engine) as batcher:
        pipeline, admission = pipeline_before(batcher, 4)

        async def draw() -> Arrays:
            with admission.reserve("a", 4):
                return await pipeline.run(GRAPH, numbers(4), "me")

        given_up = asyncio.create_task(draw())
        await engine.begins()
        given_up.cancel()
        await asyncio.wait({given_up})
        assert fits(admission, 4)
        assert not engine.gate.is_set(), "the run is still in progress"
        other = ask(batcher, [5])
        engine.gate.set()
        assert await other.values() == [10]
    assert engine.batches == [[0, 1], [5]]


@pytest.mark.parametrize("outcome", [{"y": np.zeros(1)}, EngineFailed("x")])
async def test_an_outcome_that_comes_together_with_the_cancellation_is_dropped(outcome: Arrays | Exception):
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    queue = PatientQueue()
    pipeline, admission = pipeline_before(queue)
    with admission.reserve("a", 1):
        running = await begun(pipeline, 1)
        running.cancel()
        queue.end(0, outcome)
        await asyncio.wait({running})
        assert running.cancelled()
    assert fits(admission, 4)
    assert not problems


async def test_room_is_free_again_after_the_queue_has_stopped():
    async with batching(opened(DoublingEngine())) as batcher:
        pipeline, admission = pipeline_before(batcher, 4)
        await batcher.stop("the server has stopped")
        with admission.reserve("a", 4), pytest.raises(Unavailable, match="the server has stopped"):
            await pipeline.run(GRAPH, numbers(4), "me")
        assert fits(admission, 4)


async def test_a_refused_client_is_told_how_long_what_is_admitted_will_take():
    queue = PatientQueue()
    pipeline, admission = pipeline_before(queue, 100)
    for number in range(60):
        with admission.reserve("a", 50):
            running = await begun(pipeline, 50)
            queue.submitted[number].compute_s, queue.submitted[number].batch_size = 0.5, 50
            queue.end(number, numbers(50))
            await running
    with admission.reserve("a", 75), pytest.raises(Rejected) as refused:
        admission.reserve("a", 50)
    assert refused.value.retry_after_s == pytest.approx(0.75, rel=0.05), "75 images at 100 a second"


async def test_a_small_request_in_a_large_batch_tells_the_speed_of_the_batch():
    queue = PatientQueue()
    pipeline, admission = pipeline_before(queue, 100)
    for number in range(60):
        with admission.reserve("a", 1):
            running = await begun(pipeline, 1)
            queue.submitted[number].compute_s, queue.submitted[number].batch_size = 0.5, 50
            queue.end(number, numbers(1))
            await running
    with admission.reserve("a", 75), pytest.raises(Rejected) as refused:
        admission.reserve("a", 50)
    assert refused.value.retry_after_s == pytest.approx(0.75, rel=0.05), "75 images at 100 a second"
