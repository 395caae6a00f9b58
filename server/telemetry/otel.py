"""Traces by OpenTelemetry, sent over OTLP; the only module that knows either, and needs the extra `otel`.

A request's span is begun when it comes; its stages are written once their times are known.
"""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server.addresses import is_here
from server.telemetry.tracing import Metadata, Trace

SERVICE = "figment"
TRACE_CONTEXT = frozenset({"traceparent", "tracestate"})
NS = 1_000_000_000

EXPORT_S = 2.0
"""Seconds that a collector has to take spans; a server that stops waits no longer for it."""

DIRECT: Any = (("grpc.enable_http_proxy", 0),)
"""No proxy, whatever the environment says."""

SERVER_ERRORS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""Statuses that make a server's span an error, by OpenTelemetry's conventions for gRPC."""


class OtelTracer:
    """Traces, sent to a collector by a thread of their own.

    endpoint   such as http://127.0.0.1:4317; https means TLS
    ratio      part of the requests to trace, of those whose callers do not say
    """

    def __init__(self, endpoint: str, ratio: float) -> None:
        resource = Resource.create({"service.name": SERVICE})
        self._provider = TracerProvider(ParentBased(TraceIdRatioBased(ratio)), resource, shutdown_on_exit=False)
        host = urlsplit(endpoint).hostname or ""
        exporter = OTLPSpanExporter(
            endpoint,
            insecure=endpoint.startswith("http://"),
            timeout=EXPORT_S,
            channel_options=DIRECT if is_here(host) else None,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(SERVICE)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, name: str, metadata: Metadata) -> Trace | None:
        """As `Tracer.begin`."""
        carrier = {key: str(value) for key, value in metadata if key in TRACE_CONTEXT}
        trace = _OtelTrace(self._tracer, name, self._propagator.extract(carrier))
        return trace if trace.is_sampled else None

    def close(self) -> None:
        """As `Tracer.close`."""
        self._provider.shutdown()


class _OtelTrace:
    """The span of one request."""

    def __init__(self, tracer: Tracer, name: str, context: Context) -> None:
        # Stages are timed by the monotonic clock; all of a trace is moved to the wall clock as it stands at its start.
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        self._tracer = tracer
        self._span = tracer.start_span(name, context, kind=SpanKind.SERVER)
        self._context = set_span_in_context(self._span)

    @property
    def id(self) -> str:
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def is_sampled(self) -> bool:
        return self._span.is_recording()

    def child(self, name: str) -> Trace:
        return _OtelTrace(self._tracer, name, self._context)

    def stage(self, name: str, started_s: float, seconds: float) -> None:
        start_ns = int(started_s * NS) + self._offset_ns
        self._tracer.start_span(name, self._context, start_time=start_ns).end(start_ns + int(seconds * NS))

    def end(self, code: str, facts: Mapping[str, str | int]) -> None:
        self._span.set_attribute("rpc.system", "grpc")
        self._span.set_attribute("rpc.grpc.status_code", code)
        self._span.set_attributes({f"figment.{name}": fact for name, fact in facts.items()})
        if code in SERVER_ERRORS:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()
