"""Room for images: who is let in, what refusals say, and that every place is free again whatever ended it."""

import asyncio
from collections.abc import Callable, Hashable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.arrays import Arrays
from server.errors import EngineFailed, Rejected, ServingError, Unavailable
from server.models.graph import Graph
from server.scheduling.admission import Admission, Place, Submits
from server.scheduling.request import Request
from server.telemetry.metrics import Metrics
from tests.fakes.engine import DoublingEngine, ask, batching, occupy, opened

GRAPH = Graph("a", "1", "generator")


class PatientQueue:
    """Takes requests and leaves them to the test."""

    def __init__(self) -> None:
        self.submitted: list[Request] = []
        self.cancelled: list[Request] = []

    def submit(
        self, graph: Graph, inputs: Arrays, caller: Hashable, finish: Callable[[Arrays | Exception], None]
    ) -> Request:
        request = Request(graph, inputs, len(inputs["x"]), caller, finish, 0.0)
        self.submitted.append(request)
        return request

    def cancel(self, request: Request) -> None:
        if not request.is_ended:
            request.is_ended = True
            self.cancelled.append(request)

    def end(self, number: int, outcome: Arrays | Exception) -> None:
        """End the request that came as number `number`."""
        request = self.submitted[number]
        request.is_ended = True
        request.finish(outcome)


def admitting(queue_images: int = 4, model_queue_images: int | None = None, queue: Submits | None = None) -> Admission:
    return Admission(queue or PatientQueue(), Metrics(), queue_images, model_queue_images or queue_images)


def value(admission: Admission, name: str, **labels: str) -> float | None:
    return admission.metrics.registry.get_sample_value(f"figment_{name}", labels)


def fits(admission: Admission, images: int, model: str = "a") -> bool:
    """Whether a request would be let in now."""
    try:
        with admission.admit(model, images, "somebody else"):
            return True
    except Rejected:
        return False


def numbers(count: int) -> Arrays:
    return {"x": np.arange(count, dtype=np.float32)}


async def begun(place: Place, count: int) -> "asyncio.Task[Arrays]":
    """A run of `place` that waits in the queue."""
    task = asyncio.create_task(place.run(GRAPH, numbers(count)))
    await asyncio.sleep(0)
    return task


def test_images_are_admitted_up_to_the_limit_and_no_further():
    admission = admitting(4)
    with admission.admit("a", 3, "me"):
        assert fits(admission, 1)
        assert not fits(admission, 2)
        with admission.admit("b", 1, "me"):
            assert not fits(admission, 1)
            assert not fits(admission, 1, "b")
    assert fits(admission, 4)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again():
    admission = admitting(4)
    with admission.admit("a", 3, "me"), pytest.raises(Rejected) as refused:
        admission.admit("a", 2, "me")
    assert str(refused.value) == "the queue is full: 3 of 4 images are admitted, 2 more do not fit"
    assert refused.value.retry_after_s > 0
    assert value(admission, "rejected_total", model="a", reason="queue_full") == 1


def test_a_model_that_has_all_its_places_leaves_the_others_theirs():
    admission = admitting(10, model_queue_images=4)
    with admission.admit("a", 3, "me"):
        with pytest.raises(Rejected) as refused:
            admission.admit("a", 2, "me")
        assert str(refused.value) == "the queue is full: 3 of 4 images of a are admitted, 2 more do not fit"
        assert refused.value.retry_after_s > 0
        assert fits(admission, 4, "b")
    assert value(admission, "rejected_total", model="a", reason="queue_full") == 1
    assert value(admission, "rejected_total", model="b", reason="queue_full") is None
    assert fits(admission, 4)
    assert not fits(admission, 5)


def test_models_share_the_places_of_all_together():
    admission = admitting(5, model_queue_images=4)
    with admission.admit("a", 4, "me"):
        with pytest.raises(Rejected, match="4 of 5 images are admitted"):
            admission.admit("b", 2, "me")
        assert fits(admission, 1, "b")


def test_a_request_is_admitted_whole_or_not_at_all():
    admission = admitting(4)
    with pytest.raises(Rejected):
        admission.admit("a", 5, "me")
    assert not value(admission, "queue_images", model="a")
    assert fits(admission, 4)


def test_a_request_that_comes_back_for_its_next_images_is_not_refused():
    admission = admitting(4)
    with admission.admit("a", 4, "another"), admission.admit("a", 3, "me", is_continued=True):
        assert value(admission, "queue_images", model="a") == 7
        admission.close("draining")
        with admission.admit("a", 2, "me", is_continued=True):
            assert value(admission, "queue_images", model="a") == 9
    assert value(admission, "queue_images", model="a") == 0


def test_the_images_of_a_continued_request_keep_others_out():
    admission = admitting(4)
    with admission.admit("a", 3, "me", is_continued=True):
        assert fits(admission, 1)
        assert not fits(admission, 2)
    assert fits(admission, 4)


def test_a_closed_queue_admits_no_more():
    admission = admitting(4)
    with admission.admit("a", 1, "me"):
        admission.close("the server is draining: try another one")
        with pytest.raises(Unavailable, match="the server is draining: try another one"):
            admission.admit("a", 1, "me")
    with pytest.raises(Unavailable):
        admission.admit("b", 1, "me")
    assert value(admission, "rejected_total", model="a", reason="draining") == 1
    assert value(admission, "rejected_total", model="b", reason="draining") == 1
    assert value(admission, "rejected_total", model="a", reason="queue_full") is None


async def test_a_closed_queue_finishes_what_it_admitted():
    engine = DoublingEngine()
    async with batching(engine) as batcher:
        admission = admitting(queue=batcher)
        with admission.admit("a", 2, "me") as place:
            running = asyncio.create_task(place.run(GRAPH, numbers(2)))
            await engine.begins()
            admission.close("draining")
            engine.gate.set()
            assert (await running)["y"].tolist() == [0, 2]
            assert (await place.run(GRAPH, numbers(2)))["y"].tolist() == [0, 2], "its next stage too"


async def test_a_place_runs_its_rows_and_gets_the_outputs():
    async with batching(opened(DoublingEngine())) as batcher:
        admission = admitting(queue=batcher)
        with admission.admit("a", 4, "me") as place:
            assert (await place.run(GRAPH, numbers(4)))["y"].tolist() == [0, 2, 4, 6]
            assert (await place.run(GRAPH, numbers(1)))["y"].tolist() == [0]


async def test_a_place_tells_the_queue_whose_rows_they_are():
    queue = PatientQueue()
    with admitting(queue=queue).admit("a", 1, "ipv4:10.0.0.1:5") as place:
        running = await begun(place, 1)
        queue.end(0, {"y": np.zeros(1)})
        await running
    [request] = queue.submitted
    assert (request.graph, request.caller, request.count) == (GRAPH, "ipv4:10.0.0.1:5", 1)


async def test_a_place_sums_up_what_its_runs_took():
    queue = PatientQueue()
    admission = admitting(queue=queue)
    with admission.admit("a", 1, "me") as place:
        for number, (queue_s, compute_s, batch_size) in enumerate([(0.5, 0.25, 7), (2.0, 1.0, 3)]):
            running = await begun(place, 1)
            request = queue.submitted[number]
            request.queue_s, request.compute_s, request.batch_size = queue_s, compute_s, batch_size
            queue.end(number, {"y": np.zeros(1)})
            await running
        assert (place.queue_s, place.compute_s, place.batch_size) == (2.5, 1.25, 7)
    assert value(admission, "stage_seconds_count", model="a", stage="queue") == 2
    assert value(admission, "stage_seconds_sum", model="a", stage="queue") == 2.5


@pytest.mark.parametrize(
    "error", [EngineFailed("x"), Unavailable("x"), Rejected("x", 1), ValueError(), KeyboardInterrupt(), None]
)
def test_places_are_free_again_however_the_block_is_left(error: BaseException | None):
    admission = admitting(4)

    def use() -> None:
        with admission.admit("a", 4, "me"):
            assert not fits(admission, 1)
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            use()
    else:
        use()
    assert value(admission, "queue_images", model="a") == 0
    assert fits(admission, 4)


@pytest.mark.parametrize("error", [EngineFailed("the engine failed"), Unavailable("stopped")])
async def test_what_ends_a_run_with_an_error_frees_its_places(error: ServingError):
    queue = PatientQueue()
    admission = admitting(queue=queue)

    async def draw() -> Arrays:
        with admission.admit("a", 4, "me") as place:
            return await place.run(GRAPH, numbers(4))

    drawing = asyncio.create_task(draw())
    await asyncio.sleep(0)
    assert value(admission, "queue_images", model="a") == 4
    queue.end(0, error)
    with pytest.raises(type(error), match=str(error)):
        await drawing
    assert value(admission, "queue_images", model="a") == 0
    assert fits(admission, 4)
    assert not queue.cancelled, "the queue has ended it by itself"


async def test_a_cancelled_request_frees_its_place_and_is_not_computed():
    engine = DoublingEngine()
    async with batching(engine) as batcher:
        admission = admitting(3, queue=batcher)
        first = await occupy(engine, batcher)

        async def draw() -> Arrays:
            with admission.admit("a", 3, "me") as place:
                return await place.run(GRAPH, {"x": np.array([7, 8, 9], np.float32)})

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


async def test_a_request_that_is_cancelled_while_it_runs_frees_its_place_at_once():
    engine = DoublingEngine(max_size=2)
    async with batching(engine) as batcher:
        admission = admitting(4, queue=batcher)

        async def draw() -> Arrays:
            with admission.admit("a", 4, "me") as place:
                return await place.run(GRAPH, numbers(4))

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
    admission = admitting(queue=queue)
    with admission.admit("a", 1, "me") as place:
        running = await begun(place, 1)
        running.cancel()
        queue.end(0, outcome)
        await asyncio.wait({running})
        assert running.cancelled()
    assert fits(admission, 4)
    assert not problems


async def test_places_are_free_again_after_the_queue_has_stopped():
    async with batching(opened(DoublingEngine())) as batcher:
        admission = admitting(4, queue=batcher)
        await batcher.stop("the server has stopped")
        with admission.admit("a", 4, "me") as place, pytest.raises(Unavailable, match="the server has stopped"):
            await place.run(GRAPH, numbers(4))
        assert fits(admission, 4)


def test_the_images_admitted_are_shown_by_model():
    admission = admitting(8)
    assert value(admission, "queue_limit_images") == 8
    with admission.admit("a", 3, "me"):
        with admission.admit("b", 1, "me"), admission.admit("a", 2, "me"):
            assert (value(admission, "queue_images", model="a"), value(admission, "queue_images", model="b")) == (5, 1)
        assert value(admission, "queue_images", model="a") == 3
    assert (value(admission, "queue_images", model="a"), value(admission, "queue_images", model="b")) == (0, 0)


@given(
    st.lists(st.one_of(st.tuples(st.sampled_from("ab"), st.integers(1, 6), st.booleans()), st.integers(0, 9))),
    st.integers(1, 12),
    st.integers(1, 12),
)
@settings(max_examples=100, deadline=None, database=None)
def test_whatever_comes_and_goes_those_are_admitted_who_fit(
    steps: list[tuple[str, int, bool] | int], queue_images: int, model_queue_images: int
):
    """steps: a request comes, (model, images, is_continued), or the one at this index leaves."""
    admission = admitting(queue_images, model_queue_images)
    inside: list[tuple[str, int, Place]] = []
    for step in steps:
        if isinstance(step, int):
            if inside:
                inside.pop(step % len(inside))[2].__exit__(None, None, None)
            continue
        model, images, is_continued = step
        all_together = sum(count for _, count, _ in inside)
        of_model = sum(count for name, count, _ in inside if name == model)
        if is_continued or (all_together + images <= queue_images and of_model + images <= model_queue_images):
            place = admission.admit(model, images, "me", is_continued=is_continued)
            inside.append((model, images, place.__enter__()))
        else:
            with pytest.raises(Rejected):
                admission.admit(model, images, "me")
        for name in "ab":
            shown = value(admission, "queue_images", model=name) or 0
            assert shown == sum(count for other, count, _ in inside if other == name)


async def test_a_refused_client_is_told_how_long_what_is_admitted_will_take():
    queue = PatientQueue()
    admission = admitting(100, queue=queue)
    for number in range(60):
        with admission.admit("a", 50, "me") as place:
            running = await begun(place, 50)
            queue.submitted[number].compute_s, queue.submitted[number].batch_size = 0.5, 50
            queue.end(number, numbers(50))
            await running
    with admission.admit("a", 75, "me"), pytest.raises(Rejected) as refused:
        admission.admit("a", 50, "me")
    assert refused.value.retry_after_s == pytest.approx(0.75, rel=0.05), "75 images at 100 a second"


async def test_a_small_request_in_a_large_batch_tells_the_speed_of_the_batch():
    queue = PatientQueue()
    admission = admitting(100, queue=queue)
    for number in range(60):
        with admission.admit("a", 1, "me") as place:
            running = await begun(place, 1)
            queue.submitted[number].compute_s, queue.submitted[number].batch_size = 0.5, 50
            queue.end(number, numbers(1))
            await running
    with admission.admit("a", 75, "me"), pytest.raises(Rejected) as refused:
        admission.admit("a", 50, "me")
    assert refused.value.retry_after_s == pytest.approx(0.75, rel=0.05), "75 images at 100 a second"


def test_a_refused_client_never_comes_again_at_once():
    with pytest.raises(Rejected) as refused:
        admitting(4).admit("a", 5, "me")
    assert refused.value.retry_after_s == 0.01
