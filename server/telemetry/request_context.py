"""What is known of the request that is being served, for whoever logs, times or answers it: its id.

A context variable, so each task, and each callback that it sets off, has its own.
"""

from contextvars import ContextVar

import structlog

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the RPC that the current task serves, "" outside of one."""


def with_request_id(logger: object, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A structlog processor that adds the request id of the RPC in whose task a line is logged."""
    if own_id := request_id.get():
        event["request_id"] = own_id
    return event
