"""What takes turns in a closed loop beside `bare`: servers under load, by unary calls or on streams.

    Contender.measure(span) -> Sample: images, seconds, CPU seconds

The CPU of server, load and machine and the images are taken between two moments in the middle of a steady load.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.serving.load import FLIGHT, GRPC_CONNECTIONS, Load, Target, h2load, streaming, unary, wait_until
from benchmarks.shared.processes import Failed, machine_busy_s
from benchmarks.shared.servers import Figment, Server
from benchmarks.shared.turns import Sample, Span

STREAM_REQUESTS = 100_000
"""Requests on one stream; where they end, h2load opens the next stream."""


class Unary:
    """A server, asked for `images` images a request, `flight` requests at a time; replies say how many came and when."""

    def __init__(self, server: Server, images: int, connections: int = GRPC_CONNECTIONS, flight: int = FLIGHT) -> None:
        self.name = server.name
        self._server = server
        self._images = images
        self._connections = connections
        self._flight = flight
        self._target: Target | None = None

    def measure(self, span: Span) -> Sample:
        """Take a turn. Raises: Failed, if a call failed or none was answered."""
        with self._server.turn():
            self._target = self._target or unary(self._server, self._images, self._flight, self._connections)
            failures = self._server.failures()
            with h2load(self._target, span.load_s) as load:
                start_s, sample = _watched(self._server, load, span, lambda: 0.0)
                every = load.replies()
            if failures := self._server.failures() - failures:
                raise Failed(f"{self.name}: {failures:.0f} calls failed")
        stop_s = start_s + sample.seconds
        replies = every.within(start_s, stop_s)
        images = _some(every.share_within(start_s, stop_s) * self._images, self.name)
        return replace(sample, images=images, p50_s=replies.percentile_s(50), p99_s=replies.percentile_s(99))


class Streaming:
    """Figment, the same requests as messages on a StreamGenerate call a connection; the server's metrics count images."""

    def __init__(self, server: Figment, images: int, connections: int = GRPC_CONNECTIONS) -> None:
        self.name = f"{server.name} stream"
        self._server = server
        self._target = streaming(server, images, STREAM_REQUESTS, connections)

    def measure(self, span: Span) -> Sample:
        """Take a turn. Raises: Failed, if no image came."""
        with self._server.turn(), h2load(self._target, span.load_s) as load:
            _, sample = _watched(self._server, load, span, lambda: self._server.total("figment_images_total"))
        return replace(sample, images=_some(sample.images, self.name))


def _watched(server: Server, load: Load, span: Span, count: Callable[[], float]) -> tuple[float, Sample]:
    """When the window began, and what was counted and taken in it."""

    def read() -> list[float]:
        return [count(), server.process.cpu_s(), load.cpu_s(), machine_busy_s(), time.time()]

    wait_until(load.started_s + span.warm_s)
    before = np.array(read())
    wait_until(before[-1] + span.window_s)
    images, cpu_s, load_cpu_s, busy_s, seconds = (np.array(read()) - before).tolist()
    return float(before[-1]), Sample(images, seconds, cpu_s, load_cpu_s, busy_s - cpu_s - load_cpu_s)


def _some(images: float, name: str) -> float:
    if images <= 0:
        raise Failed(f"{name}: no image came in the window")
    return images
