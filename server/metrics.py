"""Every metric of the server, declared once, and the page that shows them.

Labels have closed sets of values: a model that is not served is `unknown`. The only module that knows
prometheus_client; others call the methods of the attributes.
"""

import threading
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from wsgiref.simple_server import WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer, _SilentHandler
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from server.errors import AddressTaken

LATENCY_BUCKETS = tuple(0.0005 * 1.5**power for power in range(26))
"""Seconds: from 0.5 ms by a factor of 1.5 to 12.6 s."""

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.rpcs_handled = Counter(
            "grpc_server_handled",
            "RPCs that ended, by code.",
            ["grpc_service", "grpc_method", "grpc_code"],
            registry=registry,
        )
        self.rpc_seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time from the start of an RPC to its end.",
            ["grpc_service", "grpc_method"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.request_seconds = Histogram(
            "figment_request_seconds",
            "Time from receipt of a request to its answer; one for each unary call and each request on a stream.",
            ["model", "method", "code"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "figment_stage_seconds",
            "Time in sample, queue or encode, one for each request or piece of one; in infer, one for each run.",
            ["model", "stage"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.batch_images = Histogram(
            "figment_batch_images",
            "Images or latents in one run of the engine, padding not counted.",
            ["model"],
            buckets=BATCH_BUCKETS,
            registry=registry,
        )
        self.padding_images = Counter(
            "figment_padding_images", "Images computed only to fill a batch size.", ["model"], registry=registry
        )
        self.images = Counter("figment_images", "Images computed for requests.", ["model"], registry=registry)
        self.queue_images = Gauge(
            "figment_queue_images",
            "Images admitted and not yet answered.",
            ["model"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.queue_limit_images = Gauge(
            "figment_queue_limit_images",
            "Images that may be admitted at once.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.streams_open = Gauge(
            "figment_streams_open", "StreamGenerate calls in progress.", registry=registry, multiprocess_mode="livesum"
        )
        self.rejected = Counter(
            "figment_rejected",
            "Requests refused before anything was computed: queue_full or draining.",
            ["model", "reason"],
            registry=registry,
        )
        self.cancelled = Counter(
            "figment_cancelled", "Requests given up by client or deadline.", ["model", "reason"], registry=registry
        )
        self.model_info = Gauge(
            "figment_model_info",
            "Always 1; the labels tell what is served.",
            ["model", "version", "family", "provider", "variant"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.model_ready = Gauge(
            "figment_model_ready",
            "1 if the version can be used, else 0.",
            ["model", "version"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.model_loads = Counter(
            "figment_model_loads", "Attempts to load a version: ok or failed.", ["model", "outcome"], registry=registry
        )
        self.engine_busy_seconds = Counter(
            "figment_engine_busy_seconds",
            "Time that a device spent on runs, all of its worker threads together.",
            ["device"],
            registry=registry,
        )
        self.engine_restarts = declare_engine_restarts(registry)
        for metric in list(vars(self).values()):
            if isinstance(metric, Counter | Gauge | Histogram) and metric._labelnames:
                # prometheus_client looks a child up by lock and tuple; label sets are closed, so all can be kept at hand.
                metric.labels = cache(metric.labels)  # type: ignore[method-assign,assignment]


def declare_engine_restarts(registry: CollectorRegistry) -> Counter:
    """The one metric that a supervisor counts and not the process that it is about."""
    return Counter(
        "figment_engine_restarts",
        "Times that a process that had engines had to be started again.",
        ["device"],
        registry=registry,
    )


def registry_of_processes(folder: Path) -> CollectorRegistry:
    """A registry that adds up what processes with PROMETHEUS_MULTIPROC_DIR=`folder` count."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return registry


def forget_process(folder: Path, pid: int) -> None:
    """Drop what a process that has ended had open; what it counted stays."""
    mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


class MetricsPage:
    """/metrics and /healthz (200 or 503) over HTTP, in a thread of its own."""

    def __init__(self, registry: CollectorRegistry, is_healthy: Callable[[], bool]) -> None:
        self._show_metrics = make_wsgi_app(registry)
        self._is_healthy = is_healthy
        self._server: WSGIServer | None = None

    def listen(self, address: str) -> str:
        """Begin to listen on host:port; returns the address with the port that it got.

        Raises: AddressTaken.
        """
        host, _, port = address.rpartition(":")
        try:
            self._server = make_server(host, int(port), self._answer, ThreadingWSGIServer, handler_class=_SilentHandler)
        except OSError as error:
            raise AddressTaken(f"metrics_address: cannot listen on {address}: {error}") from None
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        return f"{host}:{self._server.server_port}"

    def stop(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/metrics":
            page: Iterable[bytes] = self._show_metrics(environ, start_response)
            return page
        if environ["PATH_INFO"] == "/healthz":
            healthy = self._is_healthy()
            start_response("200 OK" if healthy else "503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"serving\n" if healthy else b"not serving\n"]
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"there are /metrics and /healthz\n"]
