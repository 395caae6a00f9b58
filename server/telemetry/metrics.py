"""Every metric that the server counts, declared once.

Labels have closed sets of values: a model that is not served is `unknown`. Others call the methods of the attributes, and
know nothing of prometheus_client; what can be read at any time, as memory, is added where the page is made.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from server.telemetry.buffered_metrics import BufferedCounter, BufferedHistogram, Family

LATENCY_BUCKETS = tuple(float(f"{0.0005 * 1.5**power:.4g}") for power in range(26))
"""Seconds: from 0.5 ms by a factor of 1.5 to 12.6 s."""

OBJECTIVE_S = 0.25
"""Within this time 99% of the small requests are to be answered."""

SMALL_IMAGES = 16
"""Images of a small request at most."""

REQUEST_BUCKETS = tuple(sorted({*LATENCY_BUCKETS, OBJECTIVE_S}))

FLUSH_S = 1.0

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_FlushOnScrape(self.flush))
        self._families: list[Family[BufferedCounter] | Family[BufferedHistogram]] = []
        self._reports: list[Callable[[], None]] = []
        self._flushing = threading.Lock()
        self._is_stopped = threading.Event()
        self.rpcs_handled = self._counts(
            "grpc_server_handled", "RPCs that ended, by code.", ["grpc_service", "grpc_method", "grpc_code"]
        )
        self.rpc_seconds = self._histograms(
            "grpc_server_handling_seconds", "Time from the start of an RPC to its end.", ["grpc_service", "grpc_method"]
        )
        self.request_seconds = self._histograms(
            "figment_request_seconds",
            f"Time from receipt of a request, small (at most {SMALL_IMAGES} images) or large, to its answer; one for each "
            "unary call and each request on a stream.",
            ["model", "method", "code", "size"],
            buckets=REQUEST_BUCKETS,
        )
        self.stage_seconds = self._histograms(
            "figment_stage_seconds",
            "Time in sample, queue or encode, one for each request or piece of one; in infer, one for each run.",
            ["model", "stage"],
        )
        self.batch_images = self._histograms(
            "figment_batch_images",
            "Images or latents in one run of the engine, padding not counted.",
            ["model"],
            buckets=BATCH_BUCKETS,
        )
        self.padding_images = self._counts(
            "figment_padding_images", "Images computed only to fill a batch size.", ["model"]
        )
        self.images = self._counts("figment_images", "Images computed for requests.", ["model"])
        self.queue_images = self._gauge(
            "figment_queue_images", "Images admitted and not yet answered.", ["model"], adds_up=True
        )
        self.queue_limit_images = self._gauge(
            "figment_queue_limit_images", "Images that may be admitted at once.", adds_up=True
        )
        self.streams_open = self._gauge("figment_streams_open", "StreamGenerate calls in progress.", adds_up=True)
        self.rejected = self._counts(
            "figment_rejected",
            "Requests refused before anything was computed: queue_full or draining.",
            ["model", "reason"],
        )
        self.cancelled = self._counts(
            "figment_cancelled", "Requests given up by client or deadline.", ["model", "reason"]
        )
        self.model_info = self._gauge(
            "figment_model_info",
            "Always 1; the labels tell what is served.",
            ["model", "version", "family", "provider", "variant"],
        )
        self.model_ready = self._gauge(
            "figment_model_ready", "1 if the version can be used, else 0.", ["model", "version"]
        )
        self.model_quality = self._gauge(
            "figment_model_quality",
            "Quality that the export measured, by the name of the measure; Frechet distances are better when smaller.",
            ["model", "version", "measure"],
        )
        self.model_loads = self._counts(
            "figment_model_loads", "Attempts to load a version: ok or failed.", ["model", "outcome"]
        )
        self.engine_busy_seconds = self._counts(
            "figment_engine_busy_seconds",
            "Time that a device spent on runs, all of its worker threads together.",
            ["device"],
        )
        self.engine_workers = self._gauge(
            "figment_engine_workers",
            "Threads of a device that run batches; busy seconds a second of all of them together reach this number.",
            ["device"],
            adds_up=True,
        )
        self.build_info = self._gauge(
            "figment_build_info",
            "Always 1; the labels tell the versions of the software.",
            ["version", "python", "onnxruntime"],
        )
        self.engine_restarts = declare_engine_restarts(self.registry)

    def expect(self, model: str) -> None:
        """Show 0 for what has not happened to a model yet: a counter that begins at 1 has no rate."""
        self.padding_images.labels(model)
        for reason in ("queue_full", "draining"):
            self.rejected.labels(model, reason)
        for reason in ("client", "deadline"):
            self.cancelled.labels(model, reason)

    def start(self) -> None:
        """Flush from time to time, so that little is kept where nobody scrapes, and other processes see it."""
        threading.Thread(target=self._flush_on, name="metrics-flush", daemon=True).start()

    def stop(self) -> None:
        """Flush a last time."""
        self._is_stopped.set()
        self.flush()

    def on_scrape(self, report: Callable[[], None]) -> None:
        """Have `report` set gauges at each scrape."""
        self._reports.append(report)

    def flush(self) -> None:
        """Bring what a scrape shows up to date; whoever reads `registry` has that done."""
        with self._flushing:
            for report in self._reports:
                report()
            for family in self._families:
                family.flush()

    def _flush_on(self) -> None:
        while not self._is_stopped.wait(FLUSH_S):
            self.flush()

    def _counts(self, name: str, documentation: str, labels: Sequence[str]) -> Family[BufferedCounter]:
        family = Family(Counter(name, documentation, labels, registry=self.registry), BufferedCounter)
        self._families.append(family)
        return family

    def _histograms(
        self, name: str, documentation: str, labels: Sequence[str], buckets: Sequence[float] = LATENCY_BUCKETS
    ) -> Family[BufferedHistogram]:
        histogram = Histogram(name, documentation, labels, buckets=buckets, registry=self.registry)
        family = Family(histogram, BufferedHistogram)
        self._families.append(family)
        return family

    def _gauge(self, name: str, documentation: str, labels: Sequence[str] = (), *, adds_up: bool = False) -> Gauge:
        """A gauge; that of several processes is their sum or else the largest."""
        mode: Literal["livesum", "livemax"] = "livesum" if adds_up else "livemax"
        return Gauge(name, documentation, labels, registry=self.registry, multiprocess_mode=mode)


class _FlushOnScrape(Collector):
    """The first collector of a registry, so that it hears of each scrape before the others are read."""

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = flush

    def collect(self) -> Iterable[Metric]:
        self._flush()
        return ()


def declare_engine_restarts(registry: CollectorRegistry) -> Counter:
    """The one metric that a supervisor counts and not the process that it is about."""
    return Counter(
        "figment_engine_restarts",
        "Times that a process that had engines had to be started again.",
        ["device"],
        registry=registry,
    )
