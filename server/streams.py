"""StreamGenerate: many requests on one stream, each answered under its id.

    read -> [answer: check -> (admit and draw a piece) ...] per request -> outbox -> write

Rules: at most `stream_requests` requests and one chunk ahead of a slow reader are in flight, then reading stops; a
failed request is one response and the stream goes on; the pieces of one request come in index order and exactly one
response is its last; when the server drains, reading stops and the stream ends with OK after what was admitted.
"""

import asyncio
import math
import time
from collections import deque
from typing import NamedTuple

import structlog
from grpc import StatusCode, aio

from figment.v1.image_service_pb2 import StreamGenerateRequest, StreamGenerateResponse
from server import requests
from server.admission import Admission
from server.calls import Context, cancellation_code, parsed
from server.catalogue import Catalogue
from server.errors import EngineFailed, Expired, InvalidArgument, ServingError, quote
from server.limits import Limits
from server.metrics import Metrics
from server.stages import Stages
from server.wire import joined, nested

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
        self._is_draining = False

    async def serve(self, context: Context) -> None:
        """Answer one stream until its client ends it or the server drains."""
        stream = _Stream(self, context)
        self._open.add(stream)
        self.metrics.streams_open.inc()
        if self._is_draining:
            stream.stop_reading()
        try:
            await stream.serve()
        finally:
            self._open.discard(stream)
            self.metrics.streams_open.dec()

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
        self._streams = streams
        self._context = context
        self._peer = context.peer()
        self._in_flight: set[str] = set()
        self._slots = asyncio.Semaphore(streams.limits.stream_requests)
        # One chunk is being written and one is ready behind it.
        self._ahead = _Bytes(2 * streams.limits.stream_chunk_bytes)
        self._outbox: asyncio.Queue[_Outgoing | None] = asyncio.Queue()
        self._reading: asyncio.Task[None] | None = None
        self._is_draining = False

    async def serve(self) -> None:
        """Read and answer; returns when everything that was read is answered and written."""
        try:
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(self._write_all())
                async with asyncio.TaskGroup() as answers:
                    self._reading = answers.create_task(self._read_all(answers))
                    if self._is_draining:
                        self._reading.cancel()
                self._outbox.put_nowait(None)
                await writing
        except BaseExceptionGroup as group_error:
            if group_error.subgroup(_ClientGoneError):
                raise asyncio.CancelledError from None
            raise

    def stop_reading(self) -> None:
        """Read no more requests; those that were read are answered."""
        self._is_draining = True
        if self._reading:
            self._reading.cancel()

    async def _read_all(self, answers: asyncio.TaskGroup) -> None:
        while True:
            await self._slots.acquire()
            content = await self._context.read()
            if content is aio.EOF:
                return
            try:
                message = parsed(StreamGenerateRequest.FromString, content)
            except InvalidArgument as error:
                self._fail("", error, is_new=False)
            else:
                answers.create_task(self._answer(message))

    async def _write_all(self) -> None:
        while (outgoing := await self._outbox.get()) is not None:
            try:
                await self._context.write(outgoing.response)
            except Exception as error:  # grpc names no class for it
                raise _ClientGoneError from error
            self._ahead.give(outgoing.held_bytes)
            if outgoing.is_last:
                self._slots.release()

    async def _answer(self, message: StreamGenerateRequest) -> None:
        """Answer one request, whatever becomes of it, by responses of which one is the last."""
        metrics = self._streams.metrics
        started_s = time.monotonic()
        code = StatusCode.OK
        model = self._streams.catalogue.label(message.request.model)
        is_new = message.id not in self._in_flight
        self._in_flight.add(message.id)
        try:
            if not is_new:
                raise InvalidArgument("id", f"got {quote(message.id)}, which is in flight on this stream already")
            if len(message.id) > MAX_ID:
                raise InvalidArgument("id", f"got {len(message.id)} characters, allowed are {MAX_ID}")
            if not (math.isfinite(message.timeout_s) and message.timeout_s >= 0):
                raise InvalidArgument(
                    "timeout_s", f"got {message.timeout_s}, allowed are 0 (none) and positive numbers"
                )
            async with asyncio.timeout(message.timeout_s or None):
                await self._draw(message)
        except TimeoutError:
            metrics.cancelled.labels(model, "deadline").inc()
            code = self._fail(message.id, Expired(f"timeout_s: {message.timeout_s:g} s have passed"), is_new)
        except ServingError as error:
            code = self._fail(message.id, error, is_new)
        except asyncio.CancelledError:
            code = cancellation_code(self._context)
            reason = "deadline" if code is StatusCode.DEADLINE_EXCEEDED else "client"
            metrics.cancelled.labels(model, reason).inc()
            raise
        except Exception:
            log.exception("bug: unexpected exception", method=METHOD)
            code = self._fail(message.id, EngineFailed("internal error, logged"), is_new)
        finally:
            metrics.request_seconds.labels(model, METHOD, code.name).observe(time.monotonic() - started_s)

    async def _draw(self, message: StreamGenerateRequest) -> None:
        """Check, admit and draw one request, piece by piece.

        A piece takes its bytes before its places in the queue: a reader who is slow holds up nobody else.
        """
        streams = self._streams
        model = streams.catalogue.find(message.request.model, message.request.version)
        drawing = requests.drawing(message.request, model, streams.limits.stream_images, beyond="")
        piece = min(drawing.count, streams.limits.piece_images(model.image_bytes))
        for done in range(0, drawing.count, piece):
            count = min(piece, drawing.count - done)
            held_bytes = await self._ahead.take(count * model.image_bytes)
            try:
                with streams.admission.admit(model.name, count, self._peer, is_continued=done > 0) as place:
                    response = await streams.stages.draw(place, drawing, drawing.first_index + done, count)
            except BaseException:
                self._ahead.give(held_bytes)
                raise
            is_last = done + count == drawing.count
            if is_last:
                self._in_flight.discard(message.id)
            answer = StreamGenerateResponse(id=message.id, last=is_last)
            self._outbox.put_nowait(_Outgoing(joined(nested(answer, "response", [response])), is_last, held_bytes))

    def _fail(self, request_id: str, error: ServingError, is_new: bool) -> StatusCode:
        """Answer a request with `error`; its id is free again unless an older request has it."""
        if is_new:
            self._in_flight.discard(request_id)
        answer = StreamGenerateResponse(id=request_id[:MAX_ID], error=error.message(), last=True)
        self._outbox.put_nowait(_Outgoing(answer.SerializeToString(), True, 0))
        return error.code


class _Bytes:
    """A number of bytes that may be taken, first come, first served."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, wanted: int) -> int:
        """Wait until `wanted` bytes, or all that there ever are, are free; returns how many were taken."""
        wanted = min(wanted, self._size)
        if self._waiting or self._free < wanted:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((wanted, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.give(wanted)
                raise
        else:
            self._free -= wanted
        return wanted

    def give(self, taken: int) -> None:
        """Give back what `take` returned."""
        self._free += taken
        while self._waiting and (self._waiting[0][1].cancelled() or self._waiting[0][0] <= self._free):
            wanted, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._free -= wanted
                turn.set_result(None)
