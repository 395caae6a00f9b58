"""What is the same for every RPC: its request id, its errors as statuses, its metrics and its log line.

    RPC -> request id -> service method -> reply, or ServingError -> google.rpc.Status in the trailers

The only place that aborts an RPC.
"""

import asyncio
import contextlib
import inspect
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from grpc import StatusCode, aio

from server.errors import InvalidArgument, ServingError
from server.metrics import Metrics

REQUEST_ID = "x-request-id"
_ALLOWED_ID = re.compile(r"[\x21-\x7e]{1,128}")

if TYPE_CHECKING:  # generic in the type stubs only
    Context = aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
else:
    Context, Handler = aio.ServicerContext, grpc.RpcMethodHandler


Message = TypeVar("Message")

log = structlog.get_logger()


class Calls(aio.ServerInterceptor):
    """Wraps every method that is one coroutine; not the generators of reflection and of health's Watch.

    Messages are parsed inside the wrapping, so that bytes that are no message get an answer like all bad input; a method
    that reads a stream gets bytes and parses each itself.
    """

    def __init__(self, metrics: Metrics, model_label: Callable[[str], str]) -> None:
        self._metrics = metrics
        self._model_label = model_label
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def wait_until_idle(self, timeout_s: float) -> None:
        """Return when no wrapped call is in progress, or after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Replace the method's behaviour by one that is observed."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        _, service, method = handler_call_details.method.split("/", 2)
        serialize = handler.response_serializer
        if inspect.iscoroutinefunction(handler.stream_stream):
            run = self._observed(handler.stream_stream, None, service, method)
            return grpc.stream_stream_rpc_method_handler(run, None, serialize)
        if inspect.iscoroutinefunction(handler.unary_unary):
            run = self._observed(handler.unary_unary, handler.request_deserializer, service, method)
            return grpc.unary_unary_rpc_method_handler(run, None, serialize)
        return handler

    def _observed(self, run: Any, parse: Callable[[bytes], Any] | None, service: str, method: str) -> Any:
        async def behaviour(request: Any, context: Context) -> Any:
            started_s = time.monotonic()
            request_id = _request_id(context)
            structlog.contextvars.bind_contextvars(request_id=request_id)
            context.set_trailing_metadata(((REQUEST_ID, request_id),))
            code = StatusCode.OK
            # Streams observe each of their requests themselves.
            model: str | None = None
            self._running += 1
            self._idle.clear()
            try:
                if parse:
                    request = parsed(parse, request)
                    model = self._model_label(request.model) if hasattr(request, "model") else None
                return await run(request, context)
            except ServingError as error:
                code = error.code
                log.info("request failed", method=method, code=code.name, error=str(error))
                await _abort(context, error.status(), code, request_id)
            except aio.AbortError:
                code = _as_code(context.code())
                raise
            except Exception:
                code = StatusCode.INTERNAL
                log.exception("bug: unexpected exception", method=method)
                problem = f"internal error, logged under request id {request_id}"
                await _abort(context, Status(code=code.value[0], message=problem), code, request_id)
            except asyncio.CancelledError:
                code = cancellation_code(context)
                if model is not None:
                    reason = "deadline" if code is StatusCode.DEADLINE_EXCEEDED else "client"
                    self._metrics.cancelled.labels(model, reason).inc()
                raise
            finally:
                self._running -= 1
                if not self._running:
                    self._idle.set()
                seconds = time.monotonic() - started_s
                self._metrics.rpcs_handled.labels(service, method, code.name).inc()
                self._metrics.rpc_seconds.labels(service, method).observe(seconds)
                if model is not None:
                    self._metrics.request_seconds.labels(model, method, code.name).observe(seconds)

        return behaviour


def parsed(parse: Callable[[bytes], Message], content: bytes) -> Message:
    """The message in `content`. Raises: InvalidArgument, if it is none."""
    try:
        return parse(content)
    except DecodeError:
        raise InvalidArgument("message", f"got {len(content)} bytes that are no message of this method") from None


def cancellation_code(context: Context) -> StatusCode:
    """Why a call's task was cancelled: its deadline has passed, or its client went away."""
    left_s = context.time_remaining()
    return StatusCode.DEADLINE_EXCEEDED if left_s is not None and left_s <= 0 else StatusCode.CANCELLED


def _as_code(code: object) -> StatusCode:
    return next((known for known in StatusCode if code in (known, known.value[0])), StatusCode.UNKNOWN)


async def _abort(context: Context, status: Status, code: StatusCode, request_id: str) -> None:
    trailers = (("grpc-status-details-bin", status.SerializeToString()), (REQUEST_ID, request_id))
    await context.abort(code, status.message, trailers)


def _request_id(context: Context) -> str:
    """The caller's request id if it is 1 to 128 printable characters, else a new one."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID and isinstance(value, str) and _ALLOWED_ID.fullmatch(value):
            return value
    return uuid.uuid4().hex
