"""The page of metrics over HTTP: what the server has counted, and what its processes and GPUs use now.

GET /metrics -> registry, /proc, NVML -> text that Prometheus reads       GET /healthz -> 200, or 503 and the reason
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import ThreadingWSGIServer, _SilentHandler
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from server.errors import AddressTaken
from server.gpus import Gpu

OWN_START = "process_start_time_seconds"


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
        self._problem = problem
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
            problem = self._problem()
            start_response("503 Service Unavailable" if problem else "200 OK", [("Content-Type", "text/plain")])
            return [f"not serving: {problem}\n".encode() if problem else b"serving\n"]
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"there are /metrics and /healthz\n"]


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
                known = families.setdefault(family.name, family)
                if known is not family and family.name != OWN_START:
                    (sample,), (more,) = known.samples, family.samples
                    known.samples = [sample._replace(value=sample.value + more.value)]
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
