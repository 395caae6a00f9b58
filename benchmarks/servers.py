"""The servers that are measured: how each is started, when it is ready, and how it is spoken to.

    Server(command, wire) -> start() -> probe: the images are those of the graph -> loads ... -> stop()

All hold one graph, use the same number of engine threads and stand on 127.0.0.1. All stay up while they take turns;
what each takes when idle is measured.
"""

import http.client
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import grpc
import numpy as np
import onnxruntime

from benchmarks.environments import PEERS, environment
from benchmarks.load import Target
from benchmarks.processes import Process, StartFailed
from benchmarks.wires import FigmentWire, RawHttpWire, TritonWire, Wire, call, framed, noise
from benchmarks.workloads import FLIGHT, Graph

START_S = 120.0
TOLERANCE = 1
"""Grey levels by which a server's images may be off those of onnxruntime here."""

PROBE_IMAGES = 3
GRPC_CONNECTIONS = 4
"""h2load's connections to every gRPC server. Processes that share a port get connections, not calls, by chance: with
several gateways take more."""


POLLS = {"litserve"}
"""Servers that take the CPU while nobody calls, LitServe 0.1 to 0.4 cores: they stand still when it is not their turn.
Not all do, because Triton's locks in shared memory time out and bring it down when its processes stand still."""

IDLE_S = 1.0
PROGRAM = str(Path(sys.executable).parent / "figment")
GOOD_CODES = ("OK", "CANCELLED")


class Server:
    """One server of one graph; a context manager that holds it running."""

    def __init__(
        self,
        name: str,
        graph: Graph,
        file: Path,
        wire: Wire,
        port: int,
        process: Process,
        is_ready: Callable[[], bool] | None = None,
        *,
        polls: bool = False,
    ) -> None:
        self.name = name
        self.graph = graph
        self.file = file
        self.wire = wire
        self.port = port
        self.process = process
        self._is_ready = is_ready or self._answers
        self._polls = polls
        self.start_s = 0.0
        self.idle_cores = 0.0
        self._reply_bytes: dict[int, int] = {}

    def start(self) -> None:
        """Start it, wait until it is ready, check its images, see what it takes when idle. Raises: StartFailed."""
        self.process.__enter__()
        try:
            self.start_s = self.process.wait_until(self._is_ready, START_S)
            self.check(PROBE_IMAGES)
            cpu_s = self.process.cpu_s()
            time.sleep(IDLE_S)
            self.idle_cores = (self.process.cpu_s() - cpu_s) / IDLE_S
        except BaseException:
            self.process.stop()
            raise
        self._pause()

    def stop(self) -> None:
        """End it."""
        self.process.stop()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The server's turn, in which it runs. Raises: StartFailed, if it has ended."""
        if not self.process.is_running():
            raise StartFailed(f"{self.name} has ended")
        self.process.resume()
        try:
            yield
        finally:
            self._pause()

    def check(self, images: int) -> int:
        """Compare one reply with onnxruntime; returns its bytes. Raises: StartFailed, if an image is another one."""
        reply = call(self.wire, self.port, images)
        got = np.frombuffer(self.wire.images(reply), np.uint8).astype(np.int16)
        expected = _session(self.file).run(None, {"noise": noise(self.graph, images)})[0].astype(np.int16)
        if got.size != expected.size:
            raise StartFailed(f"{self.name} gave {got.size} bytes of {images} images, must be {expected.size}")
        if (worst := int(np.abs(got - expected.ravel()).max())) > TOLERANCE:
            raise StartFailed(f"{self.name}'s images are off by {worst} grey levels, allowed {TOLERANCE}")
        return len(reply)

    def failed(self) -> float:
        """Calls that failed so far as the server itself counts them, 0 where it does not say."""
        return 0.0

    def target(self, images: int, flight: int = FLIGHT, connections: int = GRPC_CONNECTIONS) -> Target:
        """A load of requests for `images` images, `flight` at a time, on `connections` if it is gRPC; in a turn."""
        if images not in self._reply_bytes:
            self._reply_bytes[images] = self.check(images)
        body, size = self.wire.request(images), self._reply_bytes[images]
        if not self.wire.is_grpc:
            return Target(self.port, self.wire.path, False, body, flight, 1, size)
        connections = min(connections, flight)
        return Target(self.port, self.wire.path, True, framed(body), connections, flight // connections, size + 5)

    def _pause(self) -> None:
        if self._polls:
            self.process.pause()

    def _answers(self) -> bool:
        try:
            call(self.wire, self.port, 1)
        except (grpc.RpcError, OSError, http.client.HTTPException):
            return False
        return True


class Figment(Server):
    """`figment serve` of one graph, and its metrics."""

    def __init__(
        self,
        name: str,
        graph: Graph,
        bundles: Path,
        logs: Path,
        threads: int,
        options: Sequence[str] = (),
        program: Sequence[str] = (PROGRAM,),
    ) -> None:
        port, self._metrics_port = free_port(), free_port()
        command = figment_command(bundles / graph.name, port, self._metrics_port, threads, options, program)
        process = Process(command, logs / f"{name}-{graph.name}.log")
        file, wire = onnx_file(bundles, graph), FigmentWire(graph.name)
        super().__init__(name, graph, file, wire, port, process, lambda: is_healthy(self._metrics_port))

    def metrics(self) -> dict[str, float]:
        """The page of metrics: sample with its labels -> value."""
        return read_metrics(self._metrics_port)

    def failed(self) -> float:
        """Calls that ended neither well nor with the client's leaving."""
        calls = {
            sample: value for sample, value in self.metrics().items() if sample.startswith("grpc_server_handled_total")
        }
        return sum(value for sample, value in calls.items() if not any(f'"{code}"' in sample for code in GOOD_CODES))

    def images(self) -> float:
        """Images computed so far."""
        return sum(value for sample, value in self.metrics().items() if sample.startswith("figment_images_total"))


def peer(name: str, graph: Graph, bundles: Path, home: Path, logs: Path, threads: int) -> Server:
    """A peer's server of one graph. Raises: SetUpFailed."""
    python, port, file = environment(name, home), free_port(), onnx_file(bundles, graph)
    command = [str(python), str(PEERS / name / "serve.py"), "--graph", str(file)]
    command += ["--port", str(port), "--threads", str(threads), "--max-batch", "64"]
    wires: dict[str, Wire] = {
        "mosec": RawHttpWire(graph, "/inference"),
        "litserve": RawHttpWire(graph, "/predict"),
        "pytriton": TritonWire(graph, "generator"),
    }
    process = Process(command, logs / f"{name}-{graph.name}.log")
    return Server(name, graph, file, wires[name], port, process, polls=name in POLLS)


def figment_command(
    models: Path,
    port: int,
    metrics_port: int,
    threads: int,
    options: Sequence[str],
    program: Sequence[str] = (PROGRAM,),
) -> list[str]:
    """`figment serve`, by the command that is found beside this Python or by another one."""
    addresses = ["--address", f"127.0.0.1:{port}", "--metrics-address", f"127.0.0.1:{metrics_port}"]
    return [*program, "serve", "--models", str(models), *addresses, "--threads", str(threads), *options]


def onnx_file(bundles: Path, graph: Graph) -> Path:
    """The graph's ONNX file in the folder that `graphs` wrote."""
    return bundles / graph.name / graph.name / "1" / "generator.onnx"


def is_healthy(metrics_port: int) -> bool:
    """Whether /healthz says so."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/healthz", timeout=5) as reply:
            return bool(reply.status == http.HTTPStatus.OK)
    except (urllib.error.URLError, OSError):
        return False


def read_metrics(metrics_port: int) -> dict[str, float]:
    """A Prometheus page: sample with its labels -> value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {sample: float(value) for sample, _, value in pairs}


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@cache
def _session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
