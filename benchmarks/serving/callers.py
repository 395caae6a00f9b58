"""The open loop's client, a process of its own: many callers in one event loop, requests of mixed sizes.

    Order -> arrivals or flight -> calls -> Outcome

An open loop sends each request at its moment, whatever became of those before; its latency counts from that moment, so
a server that stalls pays for all who would have come meanwhile. A closed loop of the same mix, `flight` at a time,
gives the capacity. grpc.aio and aiohttp cost about the same, some 0.3 ms of CPU a call, which this client takes from
the same cores as the server.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle
from typing import Any, NamedTuple

import aiohttp
import grpc
from grpc import aio

from benchmarks.serving.arrivals import schedule

CHANNELS = 8
TIMEOUT_S = 5.0
"""After which a caller gives up; counted as a failure that took for ever."""

ENOUGH = 1000
"""Requests from which a p99.9 says something."""

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


class Ended(NamedTuple):
    """A request that has ended, both moments of perf_counter(); failure: why it was not answered well, or ""."""

    images: int
    intended_s: float
    ended_s: float
    failure: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of the requests that count; seconds are from the intended arrival.

    p50_s and so on  None = more requests failed than the percentile leaves out, or too few to tell
    late_p99_s       by how much the client itself sent requests late; counted in the others
    """

    requests: int
    images: int
    failures: int
    failure: str
    p50_s: float | None = None
    p99_s: float | None = None
    p999_s: float | None = None
    late_p99_s: float = 0.0


def outcome_of(requests: Sequence[Ended], late_s: Sequence[float] = ()) -> Outcome:
    """Percentiles of all requests: one that failed took for ever."""
    good = [each for each in requests if not each.failure]
    reasons = [each.failure for each in requests if each.failure]
    times_s = sorted(each.ended_s - each.intended_s for each in good) + [math.inf] * len(reasons)
    p50_s, p99_s, p999_s = (
        None if math.isinf(time_s := percentile(times_s, percent)) else time_s for percent in (50, 99, 99.9)
    )
    return Outcome(
        requests=len(requests),
        images=sum(each.images for each in good),
        failures=len(reasons),
        failure=reasons[-1] if reasons else "",
        p50_s=p50_s,
        p99_s=p99_s,
        p999_s=p999_s if len(requests) >= ENOUGH else None,
        late_p99_s=percentile(sorted(late_s), 99) if late_s else 0.0,
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value below which `percent` of them lie; infinite where there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else math.inf


def send(order: Order) -> Outcome:
    """Do what is ordered."""
    return asyncio.run(_send(order))


async def open_loop(order: Order, call: Call) -> Outcome:
    """Send every request at its moment; counted are those that were to arrive after warm_s."""
    started_s = time.perf_counter()
    late_s, tasks = [], []
    async with asyncio.TaskGroup() as group:
        for at_s, images in schedule(order.images_per_s, order.warm_s + order.seconds):
            if (wait_s := started_s + at_s - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            late_s.append(time.perf_counter() - started_s - at_s)
            tasks.append(group.create_task(_one(order, call, images, started_s + at_s)))
    ended = [task.result() for task in tasks]
    return outcome_of([each for each in ended if each.intended_s >= started_s + order.warm_s], late_s)


async def closed_loop(order: Order, call: Call) -> Outcome:
    """`flight` callers that send the next request when the last is answered; counted are those that end in the window."""
    ended: list[Ended] = []
    sizes = [images for _, images in schedule(10_000, 10)]
    start_s = time.perf_counter() + order.warm_s
    stop_s = start_s + order.seconds

    async def work(first: int) -> None:
        for images in cycle(sizes[first :: order.flight]):
            if (now_s := time.perf_counter()) >= stop_s:
                return
            ended.append(await _one(order, call, images, now_s))

    await asyncio.gather(*(work(first) for first in range(order.flight)))
    return outcome_of([each for each in ended if start_s <= each.ended_s < stop_s])


async def _send(order: Order) -> Outcome:
    async with AsyncExitStack() as stack:
        call = await (_grpc_caller if order.is_grpc else _http_caller)(order, stack)
        return await (closed_loop if order.flight else open_loop)(order, call)


async def _one(order: Order, call: Call, images: int, intended_s: float) -> Ended:
    """One request; a failure is not raised but told."""
    failure = ""
    try:
        got = await call(images)
        if got < images * order.image_bytes:
            failure = f"a reply of {got} bytes to a request for {images} images"
    except (aiohttp.ClientError, grpc.RpcError, TimeoutError, OSError) as error:
        failure = f"{type(error).__name__}: {str(error)[:200]}"
    return Ended(images, intended_s, time.perf_counter(), failure)


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
