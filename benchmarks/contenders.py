"""What takes turns in a closed loop: servers under load, and the graph without a server.

    Contender.measure(span) -> Sample: images, seconds, CPU seconds

`Unary` is the usual case: n images a request. `Streaming` sends the same requests on streams. `Bare` runs
onnxruntime alone. The server's CPU and the replies are both taken between two moments in the middle of a steady load.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.bare import Rate, Shape
from benchmarks.load import H2load, LoadFailed, Target, wait_until
from benchmarks.processes import CommandFailed, machine_busy_s, run
from benchmarks.servers import GRPC_CONNECTIONS, Figment, Server
from benchmarks.wires import FigmentWire, framed
from benchmarks.workloads import FLIGHT

WARM_CYCLES = 2
WINDOW_CYCLES = 4

STREAM_REQUESTS = 100_000
"""Requests on one stream; where they end, h2load opens the next stream."""


@dataclass(frozen=True)
class Span:
    """warm_s of load, then window_s in which is measured, then warm_s more in which the window's requests end."""

    warm_s: float
    window_s: float

    @property
    def load_s(self) -> float:
        """Seconds that the load must last."""
        return self.window_s + 2 * self.warm_s

    def covering(self, cycle_s: float) -> "Span":
        """Long enough where answering all requests in flight once takes cycle_s at best."""
        return Span(max(self.warm_s, WARM_CYCLES * cycle_s), max(self.window_s, WINDOW_CYCLES * cycle_s))


@dataclass(frozen=True)
class Sample:
    """One measurement; load_cpu_s is what the load's generator took beside the server, latencies are of requests."""

    images: float
    seconds: float
    cpu_s: float
    load_cpu_s: float = 0.0
    others_cpu_s: float = 0.0
    """What everything else on the machine took meanwhile: the less, the more the figures are worth."""
    p50_s: float | None = None
    p99_s: float | None = None

    @property
    def images_per_s(self) -> float:
        """Throughput."""
        return self.images / self.seconds

    @property
    def cpu_us_per_image(self) -> float:
        """CPU of the server's processes."""
        return self.cpu_s / self.images * 1e6


class Contender(Protocol):
    """Something that makes images for a while and says what it took."""

    name: str

    def measure(self, span: Span) -> Sample:
        """Take a turn. Raises: LoadFailed, StartFailed."""


class Unary:
    """A server, asked for `images` images a request, FLIGHT requests at a time."""

    def __init__(self, server: Server, images: int, connections: int = GRPC_CONNECTIONS) -> None:
        self.name = server.name
        self._server = server
        self._images = images
        self._connections = connections

    def measure(self, span: Span) -> Sample:
        """Replies and CPU between two moments."""
        process = self._server.process
        server = self._server
        with server.turn(), H2load(server.target(self._images, FLIGHT, self._connections), span.load_s) as load:
            failed = self._server.failed()
            wait_until(load.started_s + span.warm_s)
            cpu_s, load_cpu_s, busy_s, start_s = process.cpu_s(), load.cpu_s(), machine_busy_s(), time.time()
            wait_until(start_s + span.window_s)
            cpu_s, load_cpu_s, stop_s = process.cpu_s() - cpu_s, load.cpu_s() - load_cpu_s, time.time()
            busy_s = machine_busy_s() - busy_s
            every = load.replies()
            if failed := self._server.failed() - failed:
                raise LoadFailed(f"{self.name}: {failed:.0f} calls failed")
        replies = every.within(start_s, stop_s)
        return Sample(
            images=_some(every.share_within(start_s, stop_s) * self._images, self.name),
            seconds=stop_s - start_s,
            cpu_s=cpu_s,
            load_cpu_s=load_cpu_s,
            others_cpu_s=busy_s - cpu_s - load_cpu_s,
            p50_s=replies.percentile_s(50),
            p99_s=replies.percentile_s(99),
        )


class Streaming:
    """Figment, the same requests as messages on a StreamGenerate call a connection; the server's metrics count images."""

    def __init__(self, server: Figment, images: int, connections: int = GRPC_CONNECTIONS) -> None:
        self.name = f"{server.name} stream"
        self._server = server
        wire = FigmentWire(server.graph.name)
        body = b"".join(framed(wire.stream_request(images, number)) for number in range(STREAM_REQUESTS))
        self._target = Target(server.port, wire.stream_path, True, body, connections, streams=1)

    def measure(self, span: Span) -> Sample:
        """Images and CPU between two moments."""
        with self._server.turn(), H2load(self._target, span.load_s) as load:
            wait_until(load.started_s + span.warm_s)
            images, cpu_s = self._server.images(), self._server.process.cpu_s()
            load_cpu_s, busy_s, start_s = load.cpu_s(), machine_busy_s(), time.time()
            wait_until(start_s + span.window_s)
            cpu_s, load_cpu_s = self._server.process.cpu_s() - cpu_s, load.cpu_s() - load_cpu_s
            busy_s = machine_busy_s() - busy_s
            images, stop_s = self._server.images() - images, time.time()
        others_cpu_s = busy_s - cpu_s - load_cpu_s
        return Sample(_some(images, self.name), stop_s - start_s, cpu_s, load_cpu_s, others_cpu_s)


class Bare:
    """The graph alone, run in the way that gives most images a second."""

    name = "onnxruntime alone"

    def __init__(self, file: Path, shape: Shape) -> None:
        self._file = file
        self._shape = shape

    def measure(self, span: Span) -> Sample:
        """One process that runs the graph and ends."""
        rate = run_bare(self._file, self._shape, span.window_s)
        return Sample(rate.images, rate.seconds, rate.cpu_s, others_cpu_s=rate.others_cpu_s)


def best_shape(file: Path, threads: int) -> Shape:
    """How to run the graph alone for most images a second."""
    return Shape(**_bare({"graph": str(file), "threads": threads}))


def run_bare(file: Path, shape: Shape, seconds: float) -> Rate:
    """The rate of the graph alone."""
    return Rate(**_bare({"graph": str(file), "shape": asdict(shape), "seconds": seconds}))


def _bare(order: dict[str, object]) -> dict[str, int]:
    try:
        answer: dict[str, int] = json.loads(run([sys.executable, "-m", "benchmarks.bare", json.dumps(order)]))
    except CommandFailed as failure:
        raise LoadFailed(f"onnxruntime alone: {failure}") from None
    return answer


def _some(images: float, name: str) -> float:
    if images <= 0:
        raise LoadFailed(f"{name}: no image came in the window")
    return images
