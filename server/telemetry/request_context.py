"""The request id of the RPC that is being served, for whoever logs, times or answers it."""

from contextvars import ContextVar

import structlog

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def request_id() -> str:
    """The request id of the RPC that the current task serves, "" outside of one."""
    return _request_id.get()


def with_request_id(logger: object, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A structlog processor that adds the request id of the RPC in whose task a line is logged."""
    if known := request_id():
        event["request_id"] = known
    return event


def serve_request(own_id: str) -> None:
    """The rest of this task serves the request of this id."""
    _request_id.set(own_id)
