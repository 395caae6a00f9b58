"""Receiving: room for messages before they come, turns, and a time for each."""

import asyncio

import pytest

from server.errors import Expired, Rejected
from server.rpc import receiving
from server.rpc.heap import MUCH_BYTES, Heap
from server.rpc.receiving import Receiving

HOUR_S = 3600.0


async def never() -> bytes:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("not reached")


async def message() -> bytes:
    return b"12345"


async def test_a_message_has_room_for_the_longest_until_it_is_here_and_then_for_itself():
    room = Receiving(1000, 100, HOUR_S)
    seen = []

    async def read() -> bytes:
        seen.append(room.free_bytes)
        return b"12345"

    with room.receipt("a") as receipt:
        assert await receipt.read(read) == b"12345"
        seen.append(room.free_bytes)
    assert [*seen, room.free_bytes] == [900, 995, 1000]


async def test_one_that_does_not_come_in_time_is_given_up_and_its_room_is_free():
    room = Receiving(1000, 100, 0.01)
    with pytest.raises(Expired, match=r"message: it did not come within 0\.01 s"), room.receipt("a") as receipt:
        await receipt.read(never)
    assert room.free_bytes == 1000


async def test_who_sends_slowly_gives_way_to_those_who_wait(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(receiving, "GIVE_WAY_S", 0.01)
    room = Receiving(100, 100, HOUR_S)

    async def slow() -> None:
        with room.receipt("slow") as receipt:
            await receipt.read(never)

    slowly = asyncio.create_task(slow())
    await asyncio.sleep(0)
    assert room.free_bytes == 0
    with room.receipt("other") as receipt:
        assert await receipt.read(message) == b"12345"
    with pytest.raises(Rejected, match="others wait") as refused:
        await slowly
    assert refused.value.retry_after_s > 0
    assert room.free_bytes == 100


async def test_one_connection_has_half_of_the_room_at_most():
    room = Receiving(400, 100, HOUR_S)

    async def hold() -> None:
        with room.receipt("crowd") as receipt:
            await receipt.read(never)

    holders = [asyncio.create_task(hold()) for _ in range(10)]
    await asyncio.sleep(0)
    assert room.free_bytes == 200
    with room.receipt("bystander") as receipt:
        assert await receipt.read(message) == b"12345"
    for holder in holders:
        holder.cancel()
    await asyncio.gather(*holders, return_exceptions=True)
    assert room.free_bytes == 400


async def test_connections_take_turns():
    room = Receiving(100, 100, HOUR_S)
    first = asyncio.get_running_loop().create_future()
    order = []

    async def call(connection: str) -> None:
        with room.receipt(connection) as receipt:
            await receipt.read(lambda: first if not order else message())
            order.append(connection)

    calls = [asyncio.create_task(call(connection)) for connection in ("a", "a", "a", "b")]
    await asyncio.sleep(0)
    first.set_result(b"")
    await asyncio.gather(*calls)
    assert order == ["a", "a", "b", "a"]
    assert room.free_bytes == 100


async def test_who_waits_for_room_too_long_is_refused():
    room = Receiving(100, 100, 0.01)
    with room.receipt("a") as held:
        room.message_s = HOUR_S
        await held.read(message)
        room.message_s = 0.01
        with pytest.raises(Rejected, match="together they may have 100 bytes"), room.receipt("b") as receipt:
            await receipt.read(message)
    assert room.free_bytes == 100


async def test_a_call_that_is_cancelled_leaves_no_room_taken():
    room = Receiving(100, 100, HOUR_S)

    async def call() -> None:
        with room.receipt("a") as receipt:
            await receipt.read(never)

    calls = [asyncio.create_task(call()) for _ in range(3)]
    await asyncio.sleep(0)
    calls[0].cancel()
    calls[1].cancel()  # whose turn comes at the same time
    await asyncio.wait(calls[:2])
    calls[2].cancel()
    await asyncio.wait(calls)
    assert room.free_bytes == 100


async def test_memory_is_given_back_once_much_was_received_and_is_used_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("server.rpc.heap.SETTLE_S", 0.0)
    trimmed = asyncio.Event()
    in_use = [True, True, False]
    loop = asyncio.get_running_loop()
    heap = Heap(lambda: in_use.pop(0), lambda: loop.call_soon_threadsafe(trimmed.set))
    heap.trim_later()
    heap.trim_later()
    await trimmed.wait()
    assert in_use == []


async def test_the_heap_is_trimmed_after_much_was_received(monkeypatch: pytest.MonkeyPatch):
    asked: list[bool] = []
    monkeypatch.setattr("server.rpc.receiving.Heap.trim_later", lambda heap: asked.append(True))
    receiving = Receiving(2 * MUCH_BYTES, MUCH_BYTES, 30)

    async def message(size: int) -> bytes:
        return bytes(size)

    for size in (MUCH_BYTES // 2, MUCH_BYTES // 2 - 1, 1, 1):
        with receiving.receipt("a") as receipt:
            await receipt.read(lambda size=size: message(size))
        assert len(asked) == (size == 1)
