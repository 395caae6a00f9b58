"""StreamGenerate: many requests on one stream, each answered under its id.

    read -> answer: check -> (admit, sample, run, encode) a piece at a time -> outbox -> write

Two tasks a stream, one reads and one writes; a request is no task but an object that the queue calls back, because tasks
and their wake-ups cost a quarter of all that is done for a small request.
Rules: at most `stream_requests` requests and one chunk ahead of a slow reader are in flight, then reading stops; a
failed request is one response and the stream goes on; the pieces of one request come in index order and exactly one
response is its last; when the server drains, reading stops and the stream ends with OK after what was admitted.
"""

import asyncio
import math
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, NamedTuple

import structlog
from grpc import StatusCode, aio

from figment.v1.image_service_pb2 import StreamGenerateRequest, StreamGenerateResponse
from server.arrays import Arrays
from server.errors import EngineFailed, Expired, InvalidArgument, ServingError, quote
from server.models.registry import Catalogue
from server.rpc import validation as requests
from server.rpc.codecs import RAW
from server.rpc.flow_control import Window
from server.rpc.interceptor import Context, cancellation_code, parsed
from server.rpc.limits import Limits
from server.rpc.pipeline import Stages
from server.rpc.protobuf_parts import Parts, joined, nested
from server.scheduling.admission import Admission, Place
from server.telemetry.metrics import Metrics, size_of
from server.telemetry.request_context import request_id
from server.telemetry.tracing import current_trace, serving

METHOD = "StreamGenerate"

MAX_ID = 128
"""Characters of an id, which is repeated in every response."""

log = structlog.get_logger()


class Streams:
    """Answers the streams of one server."""

    def __init__(
        self, catalogue: Catalogue, admission: Admission, stages: Stages, limits: Limits, metrics: Metrics
    ) -> None:
        self.catalogue = catalogue
        self.admission = admission
        self.stages = stages
        self.limits = limits
        self.metrics = metrics
        self._open: set[_Stream] = set()
        metrics.on_look(lambda: metrics.streams_open.set(len(self._open)))
        self._is_draining = False

    async def serve(self, context: Context) -> None:
        """Answer one stream until its client ends it or the server drains."""
        stream = _Stream(self, context)
        self._open.add(stream)
        if self._is_draining:
            stream.stop_reading()
        try:
            await stream.serve()
        finally:
            self._open.discard(stream)

    def drain(self) -> None:
        """Stop reading from all streams, now and later."""
        self._is_draining = True
        for stream in self._open:
            stream.stop_reading()


class _Outgoing(NamedTuple):
    """One response on its way to the client, and what is free again once it is written."""

    response: bytes
    is_last: bool
    held_bytes: int


class _ClientGoneError(Exception):
    """A response could not be written: the client has ended the stream or vanished."""


class _Stream:
    """One stream in progress."""

    def __init__(self, streams: Streams, context: Context) -> None:
        self.streams = streams
        self.peer = context.peer()
        self.request_id = request_id()
        self.trace = current_trace()
        self.log = log.bind(request_id=self.request_id)
        self.answers: dict[str, _Answer] = {}
        # One chunk is being written and one is ready behind it.
        self.ahead = Window(2 * streams.limits.stream_chunk_bytes)
        self._context = context
        self._slots = asyncio.Semaphore(streams.limits.stream_requests)
        self._outbox: asyncio.Queue[_Outgoing | None] = asyncio.Queue()
        self._reading: asyncio.Task[None] | None = None
        self._has_read_all = False
        self._is_draining = False

    async def serve(self) -> None:
        """Read and answer; returns when everything that was read is answered and written."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write_all())
                self._reading = group.create_task(self._read_all())
                self._reading.add_done_callback(self._end_reading)
                if self._is_draining:
                    self._reading.cancel()
        except BaseExceptionGroup as group_error:
            if group_error.subgroup(_ClientGoneError):
                raise asyncio.CancelledError from None
            raise
        finally:
            for answer in list(self.answers.values()):
                answer.give_up(cancellation_code(self._context))

    def stop_reading(self) -> None:
        """Read no more requests; those that were read are answered."""
        self._is_draining = True
        if self._reading:
            self._reading.cancel()

    def write(self, response: bytes, *, is_last: bool, held_bytes: int = 0) -> None:
        """Send a response, in order; `held_bytes` of those ahead are free again once it is written."""
        self._outbox.put_nowait(_Outgoing(response, is_last, held_bytes))

    def forget(self, answer: "_Answer") -> None:
        """Free the id of a request that has ended, unless an older request has it."""
        if self.answers.get(answer.id) is answer:
            del self.answers[answer.id]
        self._end_writing()

    async def _read_all(self) -> None:
        while True:
            await self._slots.acquire()
            content = await self._context.read()
            if content is aio.EOF:
                return
            try:
                message = parsed(StreamGenerateRequest.FromString, content)
            except InvalidArgument as error:
                self.write(StreamGenerateResponse(error=error.message(), last=True).SerializeToString(), is_last=True)
            else:
                _Answer(self, message).begin()

    def _end_reading(self, _: object) -> None:
        self._has_read_all = True
        self._end_writing()

    def _end_writing(self) -> None:
        if self._has_read_all and not self.answers:
            self._outbox.put_nowait(None)

    async def _write_all(self) -> None:
        while (outgoing := await self._outbox.get()) is not None:
            try:
                await self._context.write(outgoing.response)
            except Exception as error:  # grpc names no class for it
                raise _ClientGoneError from error
            self.ahead.give(outgoing.held_bytes)
            if outgoing.is_last:
                self._slots.release()


class _Answer:
    """One request of a stream, answered by responses of which one is the last, whatever becomes of it.

    A piece takes its bytes before its places in the queue: a reader who is slow holds up nobody else.
    """

    def __init__(self, stream: _Stream, message: StreamGenerateRequest) -> None:
        self.id = message.id
        self._stream = stream
        self._streams = stream.streams
        self._message = message
        self._model = self._streams.catalogue.label(message.request.model)
        self._started_s = time.monotonic()
        self._trace = stream.trace.child(f"{METHOD} request") if stream.trace else None
        self._timer: asyncio.TimerHandle | None = None
        self._done = 0
        self._held_bytes = 0
        self._place: Place | None = None
        self._is_ended = False

    def begin(self) -> None:
        """Check the request and begin to draw its first piece."""
        self._try(self._check)

    def give_up(self, code: StatusCode) -> None:
        """End without a response: nobody is there to read it."""
        self._streams.metrics.cancelled.labels(
            self._model, "deadline" if code is StatusCode.DEADLINE_EXCEEDED else "client"
        ).inc()
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
            self._stream.log.exception("bug: unexpected exception", method=METHOD)
            self._fail(EngineFailed("internal error, logged"))

    def _check(self) -> None:
        message, stream, limits = self._message, self._stream, self._streams.limits
        if message.id in stream.answers:
            raise InvalidArgument("id", f"got {quote(message.id)}, which is in flight on this stream already")
        stream.answers[message.id] = self
        if len(message.id) > MAX_ID:
            raise InvalidArgument("id", f"got {len(message.id)} characters, allowed are {MAX_ID}")
        if not (math.isfinite(message.timeout_s) and message.timeout_s >= 0):
            raise InvalidArgument("timeout_s", f"got {message.timeout_s}, allowed are 0 (none) and positive numbers")
        if message.timeout_s:
            self._timer = asyncio.get_running_loop().call_later(message.timeout_s, self._expire)
        model = self._streams.catalogue.find(message.request.model, message.request.version)
        self._drawing = requests.drawing(message.request, model, limits.stream_images, beyond="")
        self._piece = min(self._drawing.count, limits.piece_images(model.image_bytes))
        self._next_piece()

    def _next_piece(self) -> None:
        self._piece = min(self._piece, self._drawing.count - self._done)
        self._stream.ahead.take(self._piece * self._drawing.model.image_bytes, self._begin_piece)

    def _begin_piece(self, held_bytes: int) -> None:
        self._held_bytes = held_bytes
        self._try(self._run)

    def _run(self) -> None:
        drawing, model = self._drawing, self._drawing.model
        self._place = self._streams.admission.admit(
            model.name, self._piece, self._stream.peer, is_continued=self._done > 0
        )
        self._inputs = self._streams.stages.sample(drawing, drawing.first_index + self._done, self._piece)
        self._place.start(model.graphs["generator"], self._inputs, self._computed)

    def _computed(self, outcome: Arrays | ServingError) -> None:
        if isinstance(outcome, ServingError):
            self._fail(outcome)
        else:
            self._try(self._encode, outcome)

    def _encode(self, outcome: Arrays) -> None:
        encode, model, image_format = self._streams.stages.encode, self._drawing.model, self._drawing.image_format
        if image_format == RAW:
            self._respond(*encode(model, outcome, image_format))
        else:
            in_context = copy_context().run
            encoding = asyncio.get_running_loop().run_in_executor(
                None, in_context, encode, model, outcome, image_format
            )
            encoding.add_done_callback(lambda _: self._try(lambda: self._respond(*encoding.result())))

    def _respond(self, images: Parts, encode_s: float) -> None:
        """Send a piece and begin the next one, if there is one and nobody has ended the request meanwhile."""
        if self._is_ended:
            return
        assert self._place
        drawing, first_index = self._drawing, self._drawing.first_index + self._done
        response = self._streams.stages.response(self._place, drawing, first_index, self._inputs, images, encode_s)
        self._done += self._piece
        is_last = self._done == drawing.count
        answer = StreamGenerateResponse(id=self.id, last=is_last)
        self._stream.write(joined(nested(answer, "response", response)), is_last=is_last, held_bytes=self._held_bytes)
        self._held_bytes = 0
        if is_last:
            self._end(StatusCode.OK)
        else:
            self._place.leave()
            self._next_piece()

    def _expire(self) -> None:
        self._streams.metrics.cancelled.labels(self._model, "deadline").inc()
        self._fail(Expired(f"timeout_s: {self._message.timeout_s:g} s have passed"))

    def _fail(self, error: ServingError) -> None:
        if not self._is_ended:
            answer = StreamGenerateResponse(id=self.id[:MAX_ID], error=error.message(), last=True)
            self._stream.write(answer.SerializeToString(), is_last=True)
            self._end(error.code)

    def _end(self, code: StatusCode) -> None:
        """Free everything that the request holds."""
        self._is_ended = True
        if self._timer:
            self._timer.cancel()
        if self._place:
            self._place.leave()
            self._place = None  # which calls back: images must not wait for the garbage collector
        self._stream.ahead.forget(self._begin_piece)
        self._stream.ahead.give(self._held_bytes)
        seconds = time.monotonic() - self._started_s
        images, own_id, trace = self._message.request.count, self._stream.request_id, self._trace
        self._streams.metrics.request_seconds.labels(self._model, METHOD, code.name, size_of(images)).observe(
            seconds, own_id, trace.id if trace else ""
        )
        if trace:
            trace.end(code.name, {"request_id": own_id, "model": self._model, "images": images})
        self._stream.forget(self)
