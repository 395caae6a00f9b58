"""The open loop's client, a process of its own: many callers in one event loop, requests of mixed sizes.

    Order (JSON on stdin) -> arrivals or flight -> calls -> Outcome (JSON on stdout)

An open loop sends each request at its moment, whatever became of those before; its latency counts from that moment, so
a server that stalls pays for all who would have come meanwhile. A closed loop of the same mix, `flight` at a time,
gives the capacity. grpc.aio and aiohttp cost about the same, some 0.3 ms of CPU a call, which this client takes from
the same cores as the server. Run as `python -m benchmarks.callers`.
"""

import asyncio
import base64
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp
import grpc
from grpc import aio

from benchmarks.arrivals import schedule

CHANNELS = 8
TIMEOUT_S = 5.0
"""After which a caller gives up; counted as a failure that took for ever."""

Call = Callable[[int], Awaitable[int]]
"""images -> bytes of the reply."""


@dataclass(frozen=True)
class Order:
    """What to do; `flight` > 0 is a closed loop, otherwise `images_per_s` arrive.

    bodies       images a request -> request body, base64, without gRPC's frame
    reply_bytes  images a request -> bytes that a reply has at least
    """

    port: int
    path: str
    is_grpc: bool
    bodies: dict[str, str]
    reply_bytes: dict[str, int]
    warm_s: float
    seconds: float
    images_per_s: float = 0.0
    flight: int = 0


@dataclass
class Outcome:
    """What came of the requests after the first warm_s."""

    seconds: float = 0.0
    images: int = 0
    latencies_s: list[float] = field(default_factory=list)
    failures: int = 0
    failure: str = ""
    client_cpu_s: float = 0.0
    late_s: float = 0.0
    """By how much the client itself sent requests late, 99th percentile; counted in latencies."""


async def open_loop(order: Order, call: Call) -> Outcome:
    """Send every request at its moment; return when all have ended."""
    outcome = Outcome(seconds=order.seconds)
    arrivals = schedule(order.images_per_s, order.warm_s + order.seconds)
    started_s, cpu_s = time.perf_counter(), time.process_time()
    late_s = []
    async with asyncio.TaskGroup() as group:
        for at_s, images in arrivals:
            if (wait_s := started_s + at_s - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            late_s.append(time.perf_counter() - started_s - at_s)
            counts = at_s >= order.warm_s
            group.create_task(_one(order, call, images, started_s + at_s, outcome if counts else Outcome()))
    outcome.client_cpu_s = time.process_time() - cpu_s
    outcome.late_s = sorted(late_s)[int(0.99 * len(late_s))] if late_s else 0.0
    return outcome


async def closed_loop(order: Order, call: Call) -> Outcome:
    """`flight` callers that send the next request when the last is answered."""
    outcome = Outcome(seconds=order.seconds)
    sizes = [images for _, images in schedule(10_000, 10)]
    started_s = time.perf_counter()

    async def work(first: int) -> None:
        number = first
        while (now_s := time.perf_counter()) < started_s + order.warm_s + order.seconds:
            number += order.flight
            found = Outcome()
            await _one(order, call, sizes[number % len(sizes)], now_s, found)
            if started_s + order.warm_s <= time.perf_counter() < started_s + order.warm_s + order.seconds:
                outcome.images += found.images
                outcome.latencies_s += found.latencies_s
                outcome.failures += found.failures
                outcome.failure = found.failure or outcome.failure

    await asyncio.gather(*(work(first) for first in range(order.flight)))
    return outcome


async def _one(order: Order, call: Call, images: int, intended_s: float, outcome: Outcome) -> None:
    """One request; a failure is not raised but counted."""
    try:
        got = await call(images)
        if got < order.reply_bytes[str(images)]:
            raise ValueError(f"a reply of {got} bytes to a request for {images} images")
    except (aiohttp.ClientError, grpc.RpcError, TimeoutError, OSError, ValueError) as error:
        outcome.failures += 1
        outcome.failure = f"{type(error).__name__}: {str(error)[:200]}"
    else:
        outcome.images += images
        outcome.latencies_s.append(time.perf_counter() - intended_s)


async def _caller(order: Order, stack: AsyncExitStack) -> Call:
    bodies = {int(images): base64.b64decode(body) for images, body in order.bodies.items()}
    if order.is_grpc:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        address = f"127.0.0.1:{order.port}"
        channels = [await stack.enter_async_context(aio.insecure_channel(address, options)) for _ in range(CHANNELS)]
        methods: list[Any] = [channel.unary_unary(order.path) for channel in channels]
        turn = 0

        async def call_grpc(images: int) -> int:
            nonlocal turn
            turn = (turn + 1) % CHANNELS
            return len(await methods[turn](bodies[images], timeout=TIMEOUT_S))

        return call_grpc
    session = await stack.enter_async_context(
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60), timeout=aiohttp.ClientTimeout(TIMEOUT_S)
        )
    )
    url, headers = f"http://127.0.0.1:{order.port}{order.path}", {"Content-Type": "application/octet-stream"}

    async def call_http(images: int) -> int:
        async with session.post(url, data=bodies[images], headers=headers) as reply:
            reply.raise_for_status()
            return len(await reply.read())

    return call_http


async def main() -> None:
    """One order from stdin."""
    order = Order(**json.load(sys.stdin))
    async with AsyncExitStack() as stack:
        call = await _caller(order, stack)
        outcome = await (closed_loop if order.flight else open_loop)(order, call)
    print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    asyncio.run(main())
