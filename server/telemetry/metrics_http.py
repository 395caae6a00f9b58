"""The page of metrics over HTTP: what the server has counted, and what its processes and GPUs use now.

GET /metrics -> registry, /proc, NVML -> text that Prometheus reads       GET /healthz -> 200, or 503 and the reason

Whoever connects has a time for his request and its answer; of too many the one who has been there longest goes.
"""

import io
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from server.addresses import bound, joined, split, unavailable
from server.telemetry.gpus import Gpu

CONNECTIONS = 32
"""Connections at once, each a thread."""

SILENCE_S = 5.0
"""Seconds until the next bytes of a request, or until the next of an answer are taken."""

EXCHANGE_S = 10.0
"""Seconds from connecting to the last byte of the answer."""

OWN_START = "process_start_time_seconds"

log = structlog.get_logger()


class MetricsPage:
    """/metrics and /healthz (200, or 503 and the reason) over HTTP, in a thread of its own.

    problem   tells why the server cannot serve, "" if it can
    pids      processes beside this one whose use of the machine is the server's
    gpus      tells what its GPUs do
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        problem: Callable[[], str],
        pids: Callable[[], Iterable[int]] = tuple,
        gpus: Callable[[], Iterable[Gpu]] = tuple,
    ) -> None:
        registry.register(_Processes(pids))
        registry.register(_Gpus(gpus))
        self._show_metrics = make_wsgi_app(registry)
        self._showing = threading.Lock()
        self._problem = problem
        self._server: _Server | None = None

    def listen(self, address: str) -> str:
        """Begin to listen on host:port; returns the address with the port that it got.

        Raises: AddressTaken.
        """
        try:
            self._server = _Server(bound("metrics_address", address), self._answer)
        except OSError as error:
            raise unavailable("metrics_address", address, error) from None
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        return joined(split(address)[0], self._server.server_port)

    def stop(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "HEAD":
            return self._page(environ, start_response)
        begun: list[tuple[str, list[tuple[str, str]]]] = []
        page = self._page({**environ, "REQUEST_METHOD": "GET"}, lambda *reply: begun.append(reply[:2]))  # type: ignore[arg-type]
        status, headers = begun[0]
        start_response(status, [*headers, ("Content-Length", str(sum(map(len, page))))])
        return []

    def _page(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def text(status: HTTPStatus, content: str) -> Iterable[bytes]:
            start_response(f"{status} {status.phrase}", [("Content-Type", "text/plain")])
            return [content.encode()]

        path = environ["PATH_INFO"]
        if path not in ("/metrics", "/healthz"):
            return text(HTTPStatus.NOT_FOUND, "there are /metrics and /healthz\n")
        if environ["REQUEST_METHOD"] != "GET":
            return text(HTTPStatus.METHOD_NOT_ALLOWED, "allowed are GET and HEAD\n")
        if path == "/metrics":
            with self._showing:  # one at a time: it is work that requests for images wait for
                page: Iterable[bytes] = self._show_metrics(environ, start_response)
                return page
        if problem := self._problem():
            return text(HTTPStatus.SERVICE_UNAVAILABLE, f"not serving: {problem}\n")
        return text(HTTPStatus.OK, "serving\n")


class _Handler(WSGIRequestHandler):
    """One connection."""

    timeout = SILENCE_S

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  # its name there
        """Say nothing: whoever reads the page does so every few seconds."""

    def get_stderr(self) -> io.StringIO:
        """Where a traceback goes when the other end has left: nowhere."""
        return io.StringIO()


class _Server(ThreadingMixIn, WSGIServer):
    """HTTP on a socket that is bound already, a thread for each of at most CONNECTIONS."""

    daemon_threads = True
    request_queue_size = 4 * CONNECTIONS

    def __init__(self, listener: socket.socket, answer: WSGIApplication) -> None:
        host, port = listener.getsockname()[:2]
        super().__init__((host, port), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = host, port  # without a look-up of its name
        self.setup_environ()
        self.set_app(answer)
        self._began_s: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self.server_activate()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin to answer a connection."""
        with self._lock:
            if len(self._began_s) >= CONNECTIONS:
                self._hang_up(next(iter(self._began_s)))
            self._began_s[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that is answered."""
        with self._lock:
            self._began_s.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End connections that take too long; called twice a second."""
        super().service_actions()
        with self._lock:
            for request, began_s in list(self._began_s.items()):
                if time.monotonic() - began_s > EXCHANGE_S:
                    self._hang_up(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note a fault of ours; that the other end has left or is too slow is none."""
        if not isinstance(sys.exception(), OSError):
            log.exception("bug: unexpected exception", page="metrics")

    def _hang_up(self, request: socket.socket) -> None:
        """Wake the thread of a connection, which then ends."""
        del self._began_s[request]
        with suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)


def registry_of_processes(folder: Path) -> CollectorRegistry:
    """A registry that adds up what processes with PROMETHEUS_MULTIPROC_DIR=`folder` count."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return registry


class _Processes(Collector):
    """The metrics process_* of this process and of `pids`, added up; nothing where there is no /proc."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for pid in (os.getpid(), *self._pids()):
            # A registry of its own: a collector puts itself into the global one otherwise.
            collector = ProcessCollector(pid=lambda pid=pid: pid, registry=CollectorRegistry())  # type: ignore[misc]
            for family in collector.collect():
                merged = families.setdefault(family.name, family)
                if merged is not family and family.name != OWN_START:
                    (sample,), (more,) = merged.samples, family.samples
                    merged.samples = [sample._replace(value=sample.value + more.value)]
        yield from families.values()


class _Gpus(Collector):
    """What the GPUs do, one sample each."""

    def __init__(self, gpus: Callable[[], Iterable[Gpu]]) -> None:
        self._gpus = gpus

    def collect(self) -> Iterator[Metric]:
        families = {
            "utilization_ratio": "Part of the time in which a kernel ran.",
            "memory_used_bytes": "Memory in use, by all processes.",
            "memory_total_bytes": "Memory that there is.",
            "power_watts": "Power drawn.",
            "temperature_celsius": "Temperature of the chip.",
        }
        gpus = list(self._gpus())
        for field, description in families.items() if gpus else ():
            family = GaugeMetricFamily(f"figment_gpu_{field}", description, labels=["device"])
            for gpu in gpus:
                family.add_metric([gpu.device], getattr(gpu, field))
            yield family
