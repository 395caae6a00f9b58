"""Clients of a server on a GPU: streams from processes of their own, and one caller of mixed sizes.

    port, model -> streams() -> images a second        port, model -> mixed() -> seconds of each request by its size

grpcio's own client, so that a machine with a GPU needs no load generator.
"""

import concurrent.futures
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import grpc

from benchmarks.shared.endpoints import CHANNEL_OPTIONS, STREAM_PATH, generate, stream_request
from figment.v1.image_service_pb2 import StreamGenerateResponse

STREAM_IMAGES = 64
IN_FLIGHT = 16
"""Requests of STREAM_IMAGES images that a client has open on its stream."""

MIXED_SIZES = (1, 2, 4, 8, 16, 32, 64)
MIXED_REQUESTS = 600
MIXED_WARM_REQUESTS = 100


def streams(port: int, model: str, clients: int, seconds: float) -> float:
    """Images/s of several clients, each a process."""
    with ProcessPoolExecutor(clients) as pool:
        list(pool.map(time.sleep, [0.01] * clients))  # the processes are there before the clock starts
        started_s = time.perf_counter()
        calls = [pool.submit(stream, port, model, seconds) for _ in range(clients)]
        images = sum(call.result() for call in concurrent.futures.as_completed(calls))
        return images / (time.perf_counter() - started_s)


def stream(port: int, model: str, seconds: float) -> int:
    """One client: requests of STREAM_IMAGES images on one stream for a while; returns the images that came."""
    may_send = threading.Semaphore(IN_FLIGHT)

    def requests() -> Iterator[bytes]:
        number, until_s = 0, time.monotonic() + seconds
        while may_send.acquire(timeout=max(0.0, until_s - time.monotonic())) and time.monotonic() < until_s:
            number += 1
            yield stream_request(model, STREAM_IMAGES, number)

    images = 0
    with grpc.insecure_channel(f"127.0.0.1:{port}", CHANNEL_OPTIONS) as channel:
        for reply in channel.stream_stream(STREAM_PATH, bytes, StreamGenerateResponse.FromString)(requests()):
            if reply.HasField("error"):
                raise RuntimeError(f"the server answered: {reply.error.message}")
            images += reply.response.images.count
            if reply.last:
                may_send.release()
    return images


def mixed(port: int, model: str) -> dict[int, list[float]]:
    """One client that asks for 1 to 64 images at random, one request after the other."""
    endpoint, chance = generate(model), random.Random(0)  # noqa: S311
    seconds: dict[int, list[float]] = {size: [] for size in MIXED_SIZES}
    with grpc.insecure_channel(f"127.0.0.1:{port}", CHANNEL_OPTIONS) as channel:
        method = channel.unary_unary(endpoint.path, bytes, bytes)
        for number in range(MIXED_REQUESTS):
            size = chance.choice(MIXED_SIZES)
            request, started_s = endpoint.request(size), time.perf_counter()
            method(request)
            if number >= MIXED_WARM_REQUESTS:
                seconds[size].append(time.perf_counter() - started_s)
    return seconds
