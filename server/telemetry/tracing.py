"""Traces: where the time of one request went, where somebody asks for them.

    metadata (traceparent) -> begin() -> Trace -> stage() ... -> end() -> collector

The span of a request has its stages as children. A request that nobody traces has no trace, and costs nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import structlog

Metadata = Iterable[tuple[str, str | bytes]]


class Trace(Protocol):
    """The span of one request."""

    @property
    def id(self) -> str:
        """32 hexadecimal digits."""

    def child(self, name: str) -> "Trace":
        """The trace of a request that is part of this one."""

    def stage(self, name: str, started_s: float, seconds: float) -> None:
        """A stage of the request that has ended; `started_s` by the monotonic clock."""

    def end(self, code: str, facts: Mapping[str, str | int]) -> None:
        """The request was answered, with the name of a gRPC status; `facts` are attributes, figment. before their names."""


class Tracer(Protocol):
    """What begins traces."""

    def begin(self, name: str, metadata: Metadata) -> Trace | None:
        """The trace of a request, part of the one that the caller's `metadata` name, if any; None if nobody sees it."""

    def close(self) -> None:
        """Send what was not sent yet."""


current_trace: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The trace of the request that the current task or callback serves."""


@contextmanager
def serving(trace: Trace | None) -> Iterator[None]:
    """Within the block the request of `trace` is served."""
    token = current_trace.set(trace)
    try:
        yield
    finally:
        current_trace.reset(token)


def with_trace_id(logger: object, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A structlog processor that adds the trace id of the request that a line is logged for."""
    if trace := current_trace.get():
        event["trace_id"] = trace.id
    return event
