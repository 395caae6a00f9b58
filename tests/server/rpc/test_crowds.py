"""Crowds and rude clients at the transport: who is answered, who is refused and with what, who is hung up on."""

import asyncio
import collections
import socket
import struct
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio

from figment.v1 import image_service_pb2 as pb
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from figment_client import Client
from server.addresses import split
from server.app import App
from server.rpc.resets import WINDOW_S, Resets, close_connection
from tests.fakes.servers import running_server

OWN = [("grpc.use_local_subchannel_pool", 1)]
"""Channels with these options do not share a connection."""

DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content


def call_of(method: str) -> bytes:
    """The headers of a call as HPACK has them, none compressed."""

    def text(value: str) -> bytes:
        assert len(value) < 127
        return bytes([len(value)]) + value.encode()

    path = f"/figment.v1.ImageService/{method}"
    named = {":path": path, ":authority": "x", "content-type": "application/grpc", "te": "trailers"}
    return b"\x83\x86" + b"".join(b"\x00" + text(name) + text(value) for name, value in named.items())


def begun(content: bytes, length: int | None = None) -> bytes:
    """A gRPC message, or its beginning."""
    return struct.pack(">BI", 0, len(content) if length is None else length) + content


def connected(app: App) -> socket.socket:
    connection = socket.create_connection(split(app.address), timeout=20)
    connection.sendall(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))
    return connection


def frames_until(connection: socket.socket, is_last: Callable[[int, int], bool]) -> list[tuple[int, int]]:
    """Kinds and streams of the frames that come, up to one."""
    reader = connection.makefile("rb")
    frames = []
    while not frames or not is_last(*frames[-1]):
        head = reader.read(9)
        reader.read(int.from_bytes(head[:3]))
        frames.append((head[3], int.from_bytes(head[5:])))
    return frames


async def outcomes(app: App, calls: int, channels: int) -> collections.Counter[str]:
    """How many of so many calls at once over so many connections end with each code; refusals say when to come again."""
    counts: collections.Counter[str] = collections.Counter()
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(aio.insecure_channel(app.address, OWN)) for _ in range(channels)]
        stubs = [ImageServiceStub(channel) for channel in opened]

        async def call(number: int) -> None:
            try:
                await stubs[number % channels].Generate(pb.GenerateRequest(model="gan", count=1, seed=number))
                counts["OK"] += 1
            except aio.AioRpcError as refused:
                counts[refused.code().name] += 1
                status = Status.FromString(dict(refused.trailing_metadata())["grpc-status-details-bin"])
                assert status.details[0].Unpack(RetryInfo())

        await asyncio.gather(*(call(number) for number in range(calls)))
    return counts


@pytest.mark.parametrize(("calls", "channels"), [(4000, 1), (4000, 8)])
async def test_a_crowd_within_the_queue_is_answered(server: App, calls: int, channels: int):
    assert await outcomes(server, calls, channels) == {"OK": calls}


async def test_beyond_the_queue_admission_refuses_and_nobody_else(only_gan: Path):
    with running_server(only_gan, limits={"queue_images": 8}) as app:
        counts = await outcomes(app, 2000, 8)
    assert set(counts) == {"OK", "RESOURCE_EXHAUSTED"}
    assert sum(counts.values()) == 2000


def test_a_crowd_on_one_connection_waits_in_its_client(only_gan: Path):
    with running_server(only_gan, limits={"connection_calls": 5}) as app, connected(app) as connection:
        headers = b"".join(frame(HEADERS, END_HEADERS, 2 * number + 1, call_of("Encode")) for number in range(6))
        connection.sendall(headers)
        frames = frames_until(connection, lambda kind, _: kind == RST_STREAM)
        assert frames[-1] == (RST_STREAM, 11), "the sixth call at once of a client that does not wait"


def test_messages_that_are_half_sent_hold_up_no_more_than_their_room(only_gan: Path):
    limits = {"receive_bytes": 2**20, "received_bytes": 4 * 2**20}
    with running_server(only_gan, limits=limits) as app, connected(app) as connection:
        for number in range(10):
            stream = 2 * number + 1
            connection.sendall(frame(HEADERS, END_HEADERS, stream, call_of("Encode")))
            connection.sendall(frame(DATA, 0, stream, begun(bytes(5000), 2**20)))
        with grpc.insecure_channel(app.address, OWN) as channel:  # half of the room is for others
            assert ImageServiceStub(channel).Generate(pb.GenerateRequest(model="gan", count=1)).images.count == 1
        connection.sendall(frame(PING, 0, 0, b"are read"))
        frames = frames_until(connection, lambda kind, _: kind == PING)
        wanted = {stream for kind, stream in frames if kind == WINDOW_UPDATE and stream}
        assert wanted == {1, 3}, "the server asks for more of two messages, which is half of its room"


def test_a_connection_that_resets_without_end_is_closed(only_gan: Path):
    message = begun(pb.GenerateRequest(model="gan", count=1).SerializeToString())
    with running_server(only_gan) as app:
        with connected(app) as connection, suppress(ConnectionError):
            for stream in range(1, 2_000_000, 2):
                connection.sendall(
                    frame(HEADERS, END_HEADERS, stream, call_of("Generate"))
                    + frame(DATA, END_STREAM, stream, message)
                    + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
                )
            pytest.fail("a million calls were taken back")
        with Client(app.address) as client:
            assert len(client.generate("gan", 1)) == 1


def test_only_many_resets_in_a_short_time_close_a_connection():
    closed, now_s = [], [0.0]

    def close(peer: str) -> bool:
        closed.append(peer)
        return True

    resets = Resets(100, close, lambda: now_s[0])
    for _ in range(99):
        resets.count("rude")
        resets.count("other")
    now_s[0] += 2 * WINDOW_S
    for _ in range(99):
        resets.count("rude")
    assert closed == []
    resets.count("rude")
    assert closed == ["rude"]


@pytest.mark.parametrize(
    ("family", "host", "peer"),
    [(socket.AF_INET, "127.0.0.1", "ipv4:127.0.0.1:{}"), (socket.AF_INET6, "::1", "ipv6:%5B::1%5D:{}")],
)
def test_a_connection_is_closed_by_the_name_that_grpc_has_for_its_peer(family: int, host: str, peer: str):
    with (
        socket.create_server((host, 0), family=family) as server,
        socket.create_connection(server.getsockname()[:2]) as client,
    ):
        accepted, _ = server.accept()
        with accepted:
            port = client.getsockname()[1]
            assert close_connection(peer.format(port))
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    assert not close_connection("unix:/run/some")


def test_an_ipv4_connection_to_a_socket_for_both_kinds_is_found():
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server,
        socket.create_connection(("127.0.0.1", server.getsockname()[1])) as client,
    ):
        accepted, _ = server.accept()
        with accepted:
            assert close_connection(f"ipv4:127.0.0.1:{client.getsockname()[1]}")


def test_a_call_without_a_message_is_told_so(server: App):
    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_unary("/figment.v1.ImageService/Generate")
        with pytest.raises(grpc.RpcError, match="message: is missing") as refused:
            call(iter([]))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_over_the_limit_is_told_so(only_gan: Path):
    with (
        running_server(only_gan, limits={"receive_bytes": 2**16}) as app,
        grpc.insecure_channel(app.address, OWN) as channel,
    ):
        with pytest.raises(grpc.RpcError, match=r"Received message larger than max \(\d+ vs\. 65536\)"):
            ImageServiceStub(channel).Generate(pb.GenerateRequest(model="x" * 2**17))
        assert ImageServiceStub(channel).Generate(pb.GenerateRequest(model="gan", count=1)).images.count == 1
