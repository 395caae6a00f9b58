"""The open loop's client, a process of its own: many callers in one event loop, requests of mixed sizes.

    Order -> arrivals or flight -> calls -> Outcome

An open loop sends each request at its moment, whatever became of those before; its latency counts from that moment, so
a server that stalls pays for all who would have come meanwhile. A closed loop of the same mix, `flight` at a time,
gives the capacity. grpc.aio and aiohttp cost about the same, some 0.3 ms of CPU a call, which this client takes from
the same cores as the server.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import aiohttp
import grpc
from grpc import aio

from benchmarks.serving.arrivals import schedule

CHANNELS = 8
TIMEOUT_S = 5.0
"""After which a caller gives up; counted as a failure that took for ever."""

Call = Callable[[int], Awaitable[int]]
"""images -> bytes of the reply."""


@dataclass(frozen=True)
class Order:
    """What to do; `flight` > 0 is a closed loop, otherwise `images_per_s` arrive.

    bodies       images a request -> request body, without gRPC's frame
    image_bytes  that a reply has at least for each image
    """

    port: int
    path: str
    is_grpc: bool
    bodies: dict[int, bytes]
    image_bytes: int
    warm_s: float
    seconds: float
    images_per_s: float = 0.0
    flight: int = 0


@dataclass
class Outcome:
    """What came of the requests after the first warm_s."""

    images: int = 0
    latencies_s: list[float] = field(default_factory=list)
    failures: int = 0
    failure: str = ""
    late_s: float = 0.0
    """By how much the client itself sent requests late, 99th percentile; counted in latencies."""


def send(order: Order) -> Outcome:
    """Do what is ordered."""
    return asyncio.run(_send(order))


async def open_loop(order: Order, call: Call) -> Outcome:
    """Send every request at its moment; return when all have ended."""
    outcome, warm = Outcome(), Outcome()
    started_s = time.perf_counter()
    late_s = []
    async with asyncio.TaskGroup() as group:
        for at_s, images in schedule(order.images_per_s, order.warm_s + order.seconds):
            if (wait_s := started_s + at_s - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            late_s.append(time.perf_counter() - started_s - at_s)
            counted = outcome if at_s >= order.warm_s else warm
            group.create_task(_one(order, call, images, started_s + at_s, counted))
    outcome.late_s = sorted(late_s)[int(0.99 * len(late_s))] if late_s else 0.0
    return outcome


async def closed_loop(order: Order, call: Call) -> Outcome:
    """`flight` callers that send the next request when the last is answered; counted are those that end in the window."""
    outcome = Outcome()
    sizes = [images for _, images in schedule(10_000, 10)]
    start_s = time.perf_counter() + order.warm_s
    stop_s = start_s + order.seconds

    async def work(first: int) -> None:
        for images in cycle(sizes[first :: order.flight]):
            if (now_s := time.perf_counter()) >= stop_s:
                return
            found = Outcome()
            await _one(order, call, images, now_s, found)
            if start_s <= time.perf_counter() < stop_s:
                outcome.images += found.images
                outcome.failures += found.failures
                outcome.failure = found.failure or outcome.failure

    await asyncio.gather(*(work(first) for first in range(order.flight)))
    return outcome


async def _send(order: Order) -> Outcome:
    async with AsyncExitStack() as stack:
        call = await (_grpc_caller if order.is_grpc else _http_caller)(order, stack)
        return await (closed_loop if order.flight else open_loop)(order, call)


async def _one(order: Order, call: Call, images: int, intended_s: float, outcome: Outcome) -> None:
    """One request; a failure is not raised but counted."""
    try:
        got = await call(images)
        if got < images * order.image_bytes:
            raise ValueError(f"a reply of {got} bytes to a request for {images} images")
    except (aiohttp.ClientError, grpc.RpcError, TimeoutError, OSError, ValueError) as error:
        outcome.failures += 1
        outcome.failure = f"{type(error).__name__}: {str(error)[:200]}"
    else:
        outcome.images += images
        outcome.latencies_s.append(time.perf_counter() - intended_s)


async def _grpc_caller(order: Order, stack: AsyncExitStack) -> Call:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    address = f"127.0.0.1:{order.port}"
    channels = [await stack.enter_async_context(aio.insecure_channel(address, options)) for _ in range(CHANNELS)]
    methods: Any = cycle([channel.unary_unary(order.path) for channel in channels])

    async def call(images: int) -> int:
        return len(await next(methods)(order.bodies[images], timeout=TIMEOUT_S))

    return call


async def _http_caller(order: Order, stack: AsyncExitStack) -> Call:
    connector, timeout = aiohttp.TCPConnector(limit=0, keepalive_timeout=60), aiohttp.ClientTimeout(TIMEOUT_S)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, timeout=timeout))
    url, headers = f"http://127.0.0.1:{order.port}{order.path}", {"Content-Type": "application/octet-stream"}

    async def call(images: int) -> int:
        async with session.post(url, data=order.bodies[images], headers=headers) as reply:
            reply.raise_for_status()
            return len(await reply.read())

    return call
