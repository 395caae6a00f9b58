"""StreamGenerate keeps its rules."""

import asyncio
import queue
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from grpc import aio

from figment.v1 import image_service_pb2 as pb
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from server.app import App, serving
from server.settings import LimitSettings, ServerSettings
from tests.fakes.servers import running_server

INVALID = grpc.StatusCode.INVALID_ARGUMENT.value[0]


def ask(name: str, timeout_s: float = 0, **fields: object) -> pb.StreamGenerateRequest:
    request = pb.GenerateRequest(**{"model": "gan", "count": 1, "seed": 5, **fields})
    return pb.StreamGenerateRequest(id=name, request=request, timeout_s=timeout_s)


def answers(
    stub: ImageServiceStub, messages: list[pb.StreamGenerateRequest]
) -> dict[str, list[pb.StreamGenerateResponse]]:
    by_id = defaultdict(list)
    for message in stub.StreamGenerate(iter(messages)):
        by_id[message.id].append(message)
    return by_id


def drawn(pieces: list[pb.StreamGenerateResponse]) -> bytes:
    return b"".join(piece.response.images.data[0] for piece in pieces)


def test_a_hundred_good_and_bad_requests_are_each_answered_under_their_id(images: ImageServiceStub):
    wrong = [{"count": 0}, {"model": "nope"}, {"truncation": 2.0}, {"label": 1}, {"count": 1_000_001}]
    messages = [
        ask(str(n), **wrong[n // 2 % len(wrong)]) if n % 2 else ask(str(n), count=1 + n, first_index=n)
        for n in range(100)
    ]
    by_id = answers(images, messages)
    assert set(by_id) == {str(n) for n in range(100)}
    whole = images.Generate(pb.GenerateRequest(model="gan", seed=5, count=200)).images.data[0]
    for n in range(100):
        pieces = by_id[str(n)]
        assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        if n % 2:
            assert len(pieces) == 1
            assert pieces[0].WhichOneof("result") == "error"
            assert pieces[0].error.code in {INVALID, grpc.StatusCode.NOT_FOUND.value[0]}
            assert pieces[0].error.field in {"count", "model", "truncation", "label"}
        else:
            assert drawn(pieces) == whole[1024 * n : 1024 * (2 * n + 1)]


def test_a_large_request_comes_in_pieces_in_index_order(images: ImageServiceStub):
    pieces = answers(images, [ask("big", count=1500, first_index=10)])["big"]
    counts = [piece.response.images.count for piece in pieces]
    firsts = [piece.response.first_index for piece in pieces]
    assert sum(counts) == 1500
    assert firsts == [10 + sum(counts[:n]) for n in range(len(counts))]
    whole = [images.Generate(pb.GenerateRequest(model="gan", seed=5, first_index=f, count=750)) for f in (10, 760)]
    assert drawn(pieces) == b"".join(reply.images.data[0] for reply in whole)


def test_requests_interleave_so_that_small_ones_pass_a_large_one(images: ImageServiceStub):
    order = [m.id for m in images.StreamGenerate(iter([ask("big", count=20_000), ask("small")]))]
    assert order.index("small") < len(order) - 2


def test_an_id_in_flight_is_an_error_of_the_new_request(images: ImageServiceStub):
    by_id = answers(images, [ask("same", count=5_000), ask("same")])["same"]
    errors = [message.error for message in by_id if message.WhichOneof("result") == "error"]
    assert [(error.code, error.field) for error in errors] == [(INVALID, "id")]
    assert sum(message.response.images.count for message in by_id) == 5_000


def test_an_id_is_free_again_after_its_last_response(images: ImageServiceStub):
    to_send: queue.Queue[pb.StreamGenerateRequest | None] = queue.Queue()
    to_send.put(ask("same"))
    replies = images.StreamGenerate(iter(to_send.get, None))
    for _ in range(50):
        message = next(replies)
        assert message.WhichOneof("result") == "response"
        to_send.put(ask("same"))
    to_send.put(None)
    assert next(replies).last


def test_a_request_out_of_time_is_an_error_and_the_stream_goes_on(images: ImageServiceStub):
    by_id = answers(images, [ask("late", count=1_000_000, timeout_s=0.05), ask("good"), ask("odd", timeout_s=-1)])
    assert by_id["late"][-1].error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    assert by_id["late"][-1].last
    assert by_id["good"][0].response.images.count == 1
    assert by_id["odd"][0].error.field == "timeout_s"


def test_a_long_id_is_refused_and_cut(images: ImageServiceStub):
    (answer,) = images.StreamGenerate(iter([ask("x" * 10_000)]))
    assert (answer.error.field, answer.id) == ("id", "x" * 128)


async def test_bytes_that_are_no_message_are_an_error_and_the_stream_goes_on(only_gan: Path):
    async with served(only_gan) as (app, _), aio.insecure_channel(app.address) as channel:
        parse = pb.StreamGenerateResponse.FromString
        stream = channel.stream_stream("/figment.v1.ImageService/StreamGenerate", response_deserializer=parse)()
        await stream.write(b"\xff\xff\xff")
        await stream.write(ask("good").SerializeToString())
        await stream.done_writing()
        by_id = {message.id: message for message in [await stream.read(), await stream.read()]}
        assert by_id[""].error.field == "message"
        assert by_id["good"].response.images.count == 1


def test_a_full_queue_is_an_error_of_the_request_with_a_time_to_come_again(only_gan: Path):
    with (
        running_server(only_gan, limits=LimitSettings(queue_images=2)) as app,
        grpc.insecure_channel(app.address) as channel,
    ):
        by_id = answers(ImageServiceStub(channel), [ask("too-much", count=3), ask("fits", count=2)])
    assert by_id["too-much"][0].error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert by_id["too-much"][0].error.retry_after_s > 0
    assert by_id["fits"][0].response.images.count == 2


@asynccontextmanager
async def served(models: Path, **limits: int) -> AsyncIterator[tuple[App, ImageServiceStub]]:
    settings = ServerSettings(
        models=models, address="127.0.0.1:0", metrics_address="127.0.0.1:0", limits=LimitSettings(**limits)
    )
    async with serving(settings) as app, aio.insecure_channel(app.address) as channel:
        yield app, ImageServiceStub(channel)


async def settled(app: App, name: str, labels: dict[str, str]) -> float:
    """A metric's value once two readings in a row agree."""
    before, value = -1.0, 0.0
    while value != before:
        before = value
        await asyncio.sleep(0.2)
        value = app.metrics.registry.get_sample_value(name, labels) or 0.0
    return value


async def settles_at(app: App, expected: float, name: str, labels: dict[str, str]) -> bool:
    """Whether a metric has the value soon, and keeps it: a full queue may look settled too."""
    for _ in range(50):
        if await settled(app, name, labels) == expected:
            return True
    return False


async def test_a_slow_reader_holds_up_its_own_stream_after_a_chunk_or_two(only_gan: Path):
    async with served(only_gan, stream_chunk_bytes=64 * 1024) as (app, stub):
        stream = stub.StreamGenerate()
        await stream.write(ask("bulk", count=1_000_000))
        await stream.read()
        computed = await settled(app, "figment_images_total", {"model": "gan"})
        # What the transport buffers is gRPC's affair; beyond it at most two chunks of 64 images are computed ahead.
        assert computed < 10_000
        quick = await stub.Generate(pb.GenerateRequest(model="gan", count=1))
        assert quick.images.count == 1
        stream.cancel()


async def test_readers_that_stand_still_hold_no_place_in_the_queue(only_gan: Path):
    async with served(only_gan, queue_images=64, stream_chunk_bytes=64 * 1024) as (app, stub):
        still = [stub.StreamGenerate() for _ in range(3)]
        for stream in still:
            for number in range(64):
                await stream.write(ask(str(number), count=1_000_000))
        assert await settles_at(app, 0, "figment_queue_images", {"model": "gan"})
        assert (await stub.Generate(pb.GenerateRequest(model="gan", count=64))).images.count == 64
        for stream in still:
            stream.cancel()


async def test_a_client_that_vanishes_is_a_cancellation_and_no_bug(only_gan: Path):
    async with served(only_gan) as (app, stub):
        for _ in range(20):
            channel = aio.insecure_channel(app.address)
            stream = ImageServiceStub(channel).StreamGenerate()
            await stream.write(ask("bulk", count=1_000_000))
            await stream.read()
            await channel.close()
        assert await settles_at(app, 0, "figment_streams_open", {})
        labels = {"grpc_service": "figment.v1.ImageService", "grpc_method": "StreamGenerate"}
        value = app.metrics.registry.get_sample_value
        assert value("grpc_server_handled_total", {**labels, "grpc_code": "CANCELLED"}) == 20
        assert value("grpc_server_handled_total", {**labels, "grpc_code": "INTERNAL"}) is None
        assert (await stub.Generate(pb.GenerateRequest(model="gan", count=1))).images.count == 1


async def test_a_cancelled_stream_frees_all_its_places(only_gan: Path):
    async with served(only_gan) as (app, stub):
        stream = stub.StreamGenerate()
        for number in range(5):
            await stream.write(ask(str(number), count=100_000))
        begun: set[str] = set()
        while len(begun) < 5:
            begun.add((await stream.read()).id)
        stream.cancel()
        assert await settles_at(app, 0, "figment_queue_images", {"model": "gan"})
        assert await settles_at(app, 0, "figment_streams_open", {})
        assert await settles_at(app, 5, "figment_cancelled_total", {"model": "gan", "reason": "client"})
        assert (await stub.Generate(pb.GenerateRequest(model="gan", count=1))).images.count == 1


async def test_draining_finishes_what_was_admitted_and_ends_the_stream_with_ok(only_gan: Path):
    async with served(only_gan) as (app, stub):
        idle = stub.StreamGenerate()
        await idle.write(ask("done"))
        await idle.read()
        busy = stub.StreamGenerate()
        await busy.write(ask("bulk", count=3_000))
        received = [await busy.read()]
        stopping = asyncio.create_task(app.stop())
        while (message := await busy.read()) is not aio.EOF:
            received.append(message)
        assert sum(message.response.images.count for message in received) == 3_000
        assert received[-1].last
        assert await busy.code() is grpc.StatusCode.OK
        assert await idle.read() is aio.EOF
        assert await idle.code() is grpc.StatusCode.OK
        await stopping


async def test_at_most_64_requests_of_a_stream_are_in_flight(only_gan: Path):
    async with served(only_gan, stream_requests=4, stream_chunk_bytes=1024) as (app, stub):
        stream = stub.StreamGenerate()
        for number in range(40):
            await stream.write(ask(str(number), count=10_000))
        await stream.read()
        await asyncio.sleep(0.2)
        (open_stream,) = app._grpc_server._streams._open
        assert len(open_stream.in_flight) == 4
        stream.cancel()
