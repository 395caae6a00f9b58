"""Log lines: for people on a terminal, JSON elsewhere; on standard error.

structlog's events, records of `logging`, warnings, uncaught exceptions, what libraries print -> one form of line

gRPC's C library and onnxruntime write past Python: they are told elsewhere to be silent.
"""

import io
import logging
import sys
import threading
from types import TracebackType

import structlog
from structlog.types import EventDict, Processor

from server.telemetry.request_context import with_request_id
from server.telemetry.tracing import with_trace_id

log = structlog.get_logger()


def set_up_logging() -> None:
    """Set up the log of this process; only entry points do."""
    people = sys.stderr.isatty()
    begin: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        with_request_id,
        with_trace_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    end: list[Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if people
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    )
    structlog.configure(
        processors=[*begin, *end],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),  # a line is one write: others write here too
    )
    of_libraries = logging.StreamHandler(sys.stderr)
    of_libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*begin, _with_logger],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *end],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[of_libraries], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _tell_uncaught
    threading.excepthook = _tell_uncaught_in_thread


class PrintedLines(io.TextIOBase):
    """Stands in for sys.stderr: what is printed, as grpc.aio does with some tracebacks, becomes lines of the log."""

    def __init__(self) -> None:
        self._started = ""

    def write(self, text: str) -> int:
        """Log the lines that are complete."""
        *lines, self._started = (self._started + text).split("\n")
        for line in filter(None, lines):
            log.warning("printed", text=line)
        return len(text)


def _with_logger(logger: object, level: str, event: EventDict) -> EventDict:
    event["logger"] = event["_record"].name
    return event


def _tell_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        log.critical("bug: the process ends with an exception", exc_info=(kind, error, trace))


def _tell_uncaught_in_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value and ended.exc_type is not SystemExit:
        log.error(
            "bug: a thread ends with an exception",
            thread=ended.thread.name if ended.thread else "",
            exc_info=(ended.exc_type, ended.exc_value, ended.exc_traceback),
        )
