"""The servers that are measured: how each is started, when it is ready, and how it is spoken to.

    Server(command, endpoint) -> running() -> probe: the images are those of the graph -> turns ... -> stopped

All hold one graph, use the same number of engine threads and stand on 127.0.0.1. All stay up while they take turns;
what each takes when idle is measured.
"""

import http.client
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Self

import grpc
import numpy as np

from benchmarks.shared.endpoints import Endpoint, call, generate, model_infer, noise, raw_http
from benchmarks.shared.environments import environment
from benchmarks.shared.processes import Failed, Process, spawn
from benchmarks.shared.session import open_session
from benchmarks.shared.workloads import LOGS, Graph, onnx_file

START_S = 120.0
TOLERANCE = 1
"""Grey levels by which a server's images may be off those of onnxruntime here."""

PROBE_IMAGES = 3
POLLS = {"litserve"}
"""Servers that take the CPU while nobody calls, LitServe 0.1 to 0.4 cores: they stand still when it is not their turn.
Not all do, because Triton's locks in shared memory time out and bring it down when its processes stand still."""

IDLE_S = 1.0
PROGRAM = str(Path(sys.executable).parent / "figment")
GOOD_CODES = ("OK", "CANCELLED")

_session = cache(open_session)


@dataclass(eq=False)
class Server:
    """One server of one graph."""

    name: str
    graph: Graph
    file: Path
    endpoint: Endpoint
    port: int
    command: Sequence[str]
    process: Process = field(init=False)
    start_s: float = 0.0
    idle_cores: float = 0.0

    @contextmanager
    def running(self) -> Iterator[Self]:
        """The server up, its images checked, and measured what it takes when idle. Raises: Failed."""
        with spawn(self.command, LOGS / f"{self.name}-{self.graph.name}.log") as self.process:
            self.start_s = self.process.wait_until(self.is_ready, START_S)
            self.check(PROBE_IMAGES)
            cpu_s = self.process.cpu_s()
            time.sleep(IDLE_S)
            self.idle_cores = (self.process.cpu_s() - cpu_s) / IDLE_S
            self._pause()
            yield self

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The server's turn, in which it runs. Raises: Failed, if it has ended."""
        if not self.process.is_running():
            raise Failed(f"{self.name} has ended")
        self.process.resume()
        try:
            yield
        finally:
            self._pause()

    def is_ready(self) -> bool:
        """Whether it answers."""
        with suppress(Failed):
            self._call(1)
            return True
        return False

    def check(self, images: int) -> int:
        """Compare one reply with onnxruntime; returns its bytes. Raises: Failed, if an image is another one."""
        reply = self._call(images)
        got = np.frombuffer(self.endpoint.images(reply), np.uint8).astype(np.int16)
        expected = _session(self.file, 1).run(None, {"noise": noise(self.graph, images)})[0].astype(np.int16)
        if got.size != expected.size:
            raise Failed(f"{self.name} gave {got.size} bytes of {images} images, must be {expected.size}")
        if (worst := int(np.abs(got - expected.ravel()).max())) > TOLERANCE:
            raise Failed(f"{self.name}'s images are off by {worst} grey levels, allowed {TOLERANCE}")
        return len(reply)

    def failures(self) -> float:
        """Calls that failed so far as the server itself counts them, 0 where it does not say."""
        return 0.0

    def _call(self, images: int) -> bytes:
        try:
            return call(self.endpoint, self.port, images)
        except (grpc.RpcError, OSError, http.client.HTTPException) as error:
            raise Failed(f"{self.name} does not answer: {error}") from None

    def _pause(self) -> None:
        if self.name in POLLS:
            self.process.pause()


class Figment(Server):
    """`figment serve` of one graph, by the command that is found beside this Python or by another, and its metrics."""

    def __init__(
        self,
        name: str,
        graph: Graph,
        bundles: Path,
        threads: int,
        options: Sequence[str] = (),
        program: Sequence[str] = (PROGRAM,),
    ) -> None:
        port, self._metrics_port = free_port(), free_port()
        addresses = ["--address", f"127.0.0.1:{port}", "--metrics-address", f"127.0.0.1:{self._metrics_port}"]
        models = ["--models", str((bundles / graph.name).resolve())]
        command = [*program, "serve", *models, *addresses, "--threads", str(threads), *options]
        super().__init__(name, graph, onnx_file(bundles, graph), generate(graph.name), port, command)

    def is_ready(self) -> bool:
        """Whether /healthz says so."""
        with suppress(Failed):
            self._page("healthz")
            return True
        return False

    def metrics(self) -> dict[str, float]:
        """The page of metrics: sample with its labels -> value."""
        return read_metrics(self._page("metrics"))

    def total(self, metric: str, without: Sequence[str] = ()) -> float:
        """A counter's sum over all samples that have none of the labels' values `without`."""
        samples = {sample: value for sample, value in self.metrics().items() if sample.partition("{")[0] == metric}
        return sum(value for sample, value in samples.items() if not any(f'"{each}"' in sample for each in without))

    def failures(self) -> float:
        """Calls that ended neither well nor with the client's leaving."""
        return self.total("grpc_server_handled_total", GOOD_CODES)

    def _page(self, name: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/{name}", timeout=10) as reply:
                return bytes(reply.read()).decode()
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"{self.name} does not tell its {name}: {error}") from None


def peer(name: str, graph: Graph, bundles: Path, threads: int) -> Server:
    """A peer's server of one graph. Raises: Failed, if its environment cannot be made."""
    port, file = free_port(), onnx_file(bundles, graph)
    command = [environment(name), "-m", f"benchmarks.peers.{name}.serve", "--graph", str(file)]
    command += ["--port", str(port), "--threads", str(threads), "--max-batch", "64"]
    endpoints = {
        "mosec": raw_http(graph, "/inference"),
        "litserve": raw_http(graph, "/predict"),
        "pytriton": model_infer(graph, "generator"),
    }
    return Server(name, graph, file, endpoints[name], port, command)


def read_metrics(page: str) -> dict[str, float]:
    """A Prometheus page: sample with its labels -> value."""
    pairs = (line.rpartition(" ") for line in page.splitlines() if line and not line.startswith("#"))
    return {sample: float(value) for sample, _, value in pairs}


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
