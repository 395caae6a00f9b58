"""One request of a stream, answered by responses of which one is the last, whatever becomes of it.

    begin() -> validation -> a piece: flow control -> admission -> pipeline: sample, run, encode -> write ... -> next piece

No task but an object that the queue calls back: tasks and their wake-ups cost a quarter of all that is done for a small
request. A piece takes its bytes before its room in the queue: a reader who is slow holds up nobody else.
"""

import asyncio
import math
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Protocol

import structlog
from grpc import StatusCode

from figment.v1.image_service_pb2 import StreamGenerateRequest, StreamGenerateResponse
from server.errors import EngineFailed, Expired, InvalidArgument, ServingError, quote
from server.rpc.codecs import RAW
from server.rpc.flow_control import FlowControl
from server.rpc.interceptor import label_of, size_of
from server.rpc.pipeline import Services
from server.rpc.protobuf_parts import Parts, joined, nested
from server.rpc.validation import generate_params
from server.scheduling.admission import Reservation
from server.scheduling.request import Request
from server.telemetry.tracing import Trace, serving

METHOD = "StreamGenerate"

MAX_ID = 128
"""Characters of an id, which is repeated in every response."""

log = structlog.get_logger()


class Stream(Protocol):
    """The stream that a request came on.

    in_flight   its requests that have not ended, by id
    ahead       bytes that may wait for its reader
    """

    services: Services
    peer: str
    request_id: str
    trace: Trace | None
    in_flight: "dict[str, StreamRequest]"
    ahead: FlowControl

    def write(self, response: bytes, *, is_last: bool, held_bytes: int = 0) -> None:
        """Send a response, in order; `held_bytes` of those ahead are free again once it is written."""

    def forget(self, request: "StreamRequest") -> None:
        """Free the id of a request that has ended, unless an older request has it."""


class StreamRequest:
    """One request in progress."""

    def __init__(self, stream: Stream, message: StreamGenerateRequest) -> None:
        self.id = message.id
        self._stream = stream
        self._services = stream.services
        self._message = message
        self._model = label_of(message.request.model, self._services.registry.known_names)
        self._started_s = time.monotonic()
        self._trace = stream.trace.child(f"{METHOD} request") if stream.trace else None
        self._timer: asyncio.TimerHandle | None = None
        self._done = 0
        self._held_bytes = 0
        self._reservation: Reservation | None = None
        self._run: Request | None = None
        self._is_ended = False

    def begin(self) -> None:
        """Check the request and begin to draw its first piece."""
        self._try(self._check)

    def give_up(self, code: StatusCode) -> None:
        """End without a response: nobody is there to read it."""
        self._count_cancelled("deadline" if code is StatusCode.DEADLINE_EXCEEDED else "client")
        self._end(code)

    def _try(self, step: Callable[..., None], *arguments: Any) -> None:
        """Take a step; the error that it raises is the answer."""
        try:
            if self._trace:
                with serving(self._trace):
                    step(*arguments)
            else:
                step(*arguments)
        except ServingError as error:
            self._fail(error)
        except Exception:
            log.exception("bug: unexpected exception", method=METHOD, request_id=self._stream.request_id)
            self._fail(EngineFailed("internal error, logged"))

    def _check(self) -> None:
        message, stream, services = self._message, self._stream, self._services
        if message.id in stream.in_flight:
            raise InvalidArgument("id", f"got {quote(message.id)}, which is in flight on this stream already")
        stream.in_flight[message.id] = self
        if len(message.id) > MAX_ID:
            raise InvalidArgument("id", f"got {len(message.id)} characters, allowed are {MAX_ID}")
        if not (math.isfinite(message.timeout_s) and message.timeout_s >= 0):
            raise InvalidArgument("timeout_s", f"got {message.timeout_s}, allowed are 0 (none) and positive numbers")
        if message.timeout_s:
            self._timer = asyncio.get_running_loop().call_later(message.timeout_s, self._expire)
        model = services.registry[message.request.model, message.request.version]
        self._params = generate_params(message.request, model, services.limits.settings.stream_images, beyond="")
        self._piece = min(self._params.count, services.limits.piece_images(model.image_bytes))
        self._next_piece()

    def _next_piece(self) -> None:
        self._piece = min(self._piece, self._params.count - self._done)
        self._stream.ahead.acquire(self._piece * self._params.model.image_bytes, self._begin_piece)

    def _begin_piece(self, held_bytes: int) -> None:
        self._held_bytes = held_bytes
        self._try(self._draw)

    def _draw(self) -> None:
        params, model, pipeline = self._params, self._params.model, self._services.pipeline
        self._reservation = self._services.admission.reserve(model.name, self._piece, is_continued=self._done > 0)
        self._inputs = pipeline.sample_some(params, params.first_index + self._done, self._piece)
        self._run = pipeline.submit(model.graphs["generator"], self._inputs, self._stream.peer, self._computed)

    def _computed(self, run: Request) -> None:
        if run.error:
            self._fail(run.error)
        else:
            self._try(self._encode, run)

    def _encode(self, run: Request) -> None:
        encode, arguments = self._services.pipeline.encode_inline, (self._params.model, run, self._params.image_format)
        if self._params.image_format == RAW:
            self._respond(run, *encode(*arguments))
        else:
            in_context = copy_context().run
            encoding = asyncio.get_running_loop().run_in_executor(None, in_context, encode, *arguments)
            encoding.add_done_callback(lambda _: self._try(lambda: self._respond(run, *encoding.result())))

    def _respond(self, run: Request, images: Parts, encode_s: float) -> None:
        """Send a piece and begin the next one, if there is one and nobody has ended the request meanwhile."""
        if self._is_ended:
            return
        params, first_index = self._params, self._params.first_index + self._done
        response = self._services.pipeline.generate_response(params, first_index, self._inputs, run, images, encode_s)
        self._done += self._piece
        is_last = self._done == params.count
        answer = StreamGenerateResponse(id=self.id, last=is_last)
        self._stream.write(joined(nested(answer, "response", response)), is_last=is_last, held_bytes=self._held_bytes)
        self._held_bytes = 0
        if is_last:
            self._end(StatusCode.OK)
        else:
            self._leave_queue()
            self._next_piece()

    def _expire(self) -> None:
        self._count_cancelled("deadline")
        self._fail(Expired(f"timeout_s: {self._message.timeout_s:g} s have passed"))

    def _fail(self, error: ServingError) -> None:
        if not self._is_ended:
            answer = StreamGenerateResponse(id=self.id[:MAX_ID], error=error.message(), last=True)
            self._stream.write(answer.SerializeToString(), is_last=True)
            self._end(error.code)

    def _leave_queue(self) -> None:
        if self._reservation:
            self._reservation.release()
        if self._run:
            self._services.pipeline.queue.cancel(self._run)
            self._run = None  # which calls back: images must not wait for the garbage collector

    def _end(self, code: StatusCode) -> None:
        """Free everything that the request holds."""
        self._is_ended = True
        if self._timer:
            self._timer.cancel()
        self._leave_queue()
        self._stream.ahead.forget(self._begin_piece)
        self._stream.ahead.release(self._held_bytes)
        seconds = time.monotonic() - self._started_s
        images, own_id, trace = self._message.request.count, self._stream.request_id, self._trace
        labels = (self._model, METHOD, code.name, size_of(images))
        observation = (seconds, own_id, trace.id if trace else "")
        self._services.metrics.request_seconds.labels(*labels).observe_request(observation)
        if trace:
            trace.end(code.name, {"request_id": own_id, "model": self._model, "images": images})
        self._stream.forget(self)

    def _count_cancelled(self, reason: str) -> None:
        self._services.metrics.cancelled.labels(self._model, reason).inc(1)
