"""What is the same for every RPC: its request id, its errors as statuses, its metrics and its log line.

    RPC -> request id -> message -> service method -> reply, or ServingError -> google.rpc.Status in the trailers

The only place that reads unary messages and aborts an RPC.
"""

import asyncio
import contextlib
import inspect
import re
import secrets
import time
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from grpc import StatusCode, aio

from server.errors import InvalidArgument, ServingError
from server.rpc.receiving import Receipt, Receiving
from server.rpc.resets import Resets
from server.rpc.validation import images_of
from server.telemetry.metrics import SMALL_IMAGES, Metrics
from server.telemetry.request_context import request_id
from server.telemetry.tracing import Metadata, Tracer, current_trace

REQUEST_ID = "x-request-id"
_ALLOWED_ID = re.compile(r"[\x21-\x7e]{1,128}")

if TYPE_CHECKING:  # generic in the type stubs only
    Context = aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
else:
    Context, Handler = aio.ServicerContext, grpc.RpcMethodHandler


Message = TypeVar("Message")

log = structlog.get_logger()


class Interceptor:
    """Adds services to a server, with every method that is one coroutine observed.

    Those that write a stream for one message, as health's Watch, are left alone. Messages are read and parsed inside the
    observation, so that each has a room and a time, and bytes that are no message get an answer like all bad input; a
    method that reads a stream gets bytes and parses each itself. A method may return its reply serialised.
    """

    def __init__(
        self, metrics: Metrics, tracer: Tracer | None, model_names: Container[str], receiving: Receiving, resets: Resets
    ) -> None:
        self._receiving = receiving
        self._resets = resets
        self._metrics = metrics
        self._tracer = tracer
        self._model_names = model_names
        self.running = 0
        """Observed calls in progress."""
        self._idle = asyncio.Event()
        self._idle.set()

    async def wait_until_idle(self, timeout_s: float) -> None:
        """Return when no observed call is in progress, or after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)

    def add_service(self, server: aio.Server, service: ServiceDescriptor, servicer: object) -> None:
        """Serve the methods of `service` by those of `servicer`."""
        handlers: dict[str, Handler] = {}
        for method in service.methods:
            run = getattr(servicer, method.name)
            parse = GetMessageClass(method.input_type).FromString
            if method.client_streaming:
                assert inspect.iscoroutinefunction(run), "methods that read a stream use read and write"
                observed = self._observed(run, None, service.full_name, method.name)
                handlers[method.name] = grpc.stream_stream_rpc_method_handler(observed, None, _serialized)
            elif method.server_streaming:
                handlers[method.name] = grpc.unary_stream_rpc_method_handler(run, parse, _serialized)
            else:
                observed = self._observed(run, parse, service.full_name, method.name)
                # On the wire it is the same as unary; gRPC reads a unary call's message before the method is asked.
                handlers[method.name] = grpc.stream_unary_rpc_method_handler(observed, None, _serialized)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))

    def _observed(self, run: Any, parse: Callable[[bytes], Any] | None, service: str, method: str) -> Any:
        async def behaviour(request: Any, context: Context) -> Any:
            started_s = time.monotonic()
            metadata = context.invocation_metadata() or ()
            own_id = _id_of(metadata)
            request_id.set(own_id)
            context.set_trailing_metadata(((REQUEST_ID, own_id),))
            code = StatusCode.OK
            status: Status | None = None
            # Streams observe each of their requests themselves.
            model: str | None = None
            images = 0
            trace = self._tracer.begin(f"{service}/{method}", metadata) if self._tracer else None
            current_trace.set(trace)
            self.running += 1
            self._idle.clear()
            try:
                with self._receiving.receipt(context.peer()) as receipt:
                    if parse:
                        request = parsed(parse, await self._read(receipt, context))
                        if hasattr(request, "model"):
                            model, images = label_of(request.model, self._model_names), images_of(request)
                    return await run(request, context)
            except ServingError as error:
                code = error.code
                status = error.status()
                log.info("request failed", method=method, code=code.name, error=str(error))
            except aio.AbortError:
                code = _as_code(context.code())
                raise
            except Exception:
                code = StatusCode.INTERNAL
                log.exception("bug: unexpected exception", method=method)
                status = Status(code=code.value[0], message=f"internal error, logged under request id {own_id}")
            except asyncio.CancelledError:
                code = cancellation_code(context)
                if code is StatusCode.CANCELLED:
                    self._resets.count(context.peer())
                if model is not None:
                    reason = "deadline" if code is StatusCode.DEADLINE_EXCEEDED else "client"
                    self._metrics.cancelled.labels(model, reason).inc(1)
                raise
            finally:
                self.running -= 1
                if not self.running:
                    self._idle.set()
                seconds = time.monotonic() - started_s
                self._metrics.rpcs_handled.labels(service, method, code.name).inc(1)
                who = own_id, trace.id if trace else ""
                self._metrics.rpc_seconds.labels(service, method).observe_request((seconds, *who))
                if model is not None:
                    labels = (model, method, code.name, size_of(images))
                    self._metrics.request_seconds.labels(*labels).observe_request((seconds, *who))
                if trace:
                    facts: dict[str, str | int] = {"request_id": own_id}
                    if model is not None:
                        facts |= {"model": model, "images": images}
                    trace.end(code.name, facts)
            # gRPC keeps the exception of an abort, in a circle with its call: none that leads to the message may be its cause.
            request = None
            return await _abort(context, status, code)

        return behaviour

    async def _read(self, receipt: Receipt, context: Context) -> bytes:
        """The one message of a call. Raises: InvalidArgument, if there is none."""

        async def read() -> Any:
            content = await context.read()
            if content is aio.EOF:
                most = self._receiving.message_bytes
                raise InvalidArgument(
                    "message", f"is missing: the call ended without one, or it had more than {most} bytes"
                )
            return content

        return await receipt.read(read)


def label_of(model: str, model_names: Container[str]) -> str:
    """The name of a model as a metric's label: closed, so unknown names are one value."""
    return model if model in model_names else "unknown"


def size_of(images: int) -> str:
    """The label `size` of a request for so many images."""
    return "small" if images <= SMALL_IMAGES else "large"


def parsed(parse: Callable[[bytes], Message], content: bytes) -> Message:
    """The message in `content`. Raises: InvalidArgument, if it is none."""
    try:
        return parse(content)
    except DecodeError:
        raise InvalidArgument("message", f"got {len(content)} bytes that are no message of this method") from None


def _serialized(reply: Any) -> bytes:
    return reply if isinstance(reply, bytes) else reply.SerializeToString()


def cancellation_code(context: Context) -> StatusCode:
    """Why a call's task was cancelled: its deadline has passed, or its client went away."""
    left_s = context.time_remaining()
    return StatusCode.DEADLINE_EXCEEDED if left_s is not None and left_s <= 0 else StatusCode.CANCELLED


def _as_code(code: object) -> StatusCode:
    return next((known for known in StatusCode if code in (known, known.value[0])), StatusCode.UNKNOWN)


async def _abort(context: Context, status: Status, code: StatusCode) -> None:
    trailers = (("grpc-status-details-bin", status.SerializeToString()), (REQUEST_ID, request_id.get()))
    await context.abort(code, status.message, trailers)


def _id_of(metadata: Metadata) -> str:
    """The caller's request id if it is 1 to 128 printable characters, else a new one."""
    for key, value in metadata:
        if key == REQUEST_ID and isinstance(value, str) and _ALLOWED_ID.fullmatch(value):
            return value
    return secrets.token_hex(16)
