"""StreamGenerate: many requests on one stream, each answered under its id.

    read -> StreamRequest ... -> outbox -> write

Two tasks a stream, one reads and one writes; its requests are objects that the queue calls back.
Rules: at most `stream_requests` requests and one chunk ahead of a slow reader are in flight, then reading stops; a
failed request is one response and the stream goes on; the pieces of one request come in index order and exactly one
response is its last; when the server drains, reading stops and the stream ends with OK after what was admitted.
"""

import asyncio
from typing import NamedTuple

from grpc import aio

from figment.v1.image_service_pb2 import StreamGenerateRequest, StreamGenerateResponse
from server.errors import InvalidArgument
from server.rpc.flow_control import FlowControl
from server.rpc.interceptor import Context, cancellation_code, parsed
from server.rpc.pipeline import Services
from server.rpc.stream_request import StreamRequest
from server.telemetry.request_context import request_id
from server.telemetry.tracing import current_trace


class Streams:
    """Answers the streams of one server."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._open: set[_Stream] = set()
        services.metrics.on_scrape(lambda: services.metrics.streams_open.set(len(self._open)))
        self._is_draining = False

    async def serve(self, context: Context) -> None:
        """Answer one stream until its client ends it or the server drains."""
        stream = _Stream(self.services, context)
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

    def __init__(self, services: Services, context: Context) -> None:
        self.services = services
        self.peer = context.peer()
        self.request_id = request_id.get()
        self.trace = current_trace.get()
        self.in_flight: dict[str, StreamRequest] = {}
        # One chunk is being written and one is ready behind it.
        self.ahead = FlowControl(2 * services.limits.settings.stream_chunk_bytes)
        self._context = context
        self._slots = asyncio.Semaphore(services.limits.settings.stream_requests)
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
            for request in list(self.in_flight.values()):
                request.give_up(cancellation_code(self._context))

    def stop_reading(self) -> None:
        """Read no more requests; those that were read are answered."""
        self._is_draining = True
        if self._reading:
            self._reading.cancel()

    def write(self, response: bytes, *, is_last: bool, held_bytes: int = 0) -> None:
        """As `Stream.write`."""
        self._outbox.put_nowait(_Outgoing(response, is_last, held_bytes))

    def forget(self, request: StreamRequest) -> None:
        """As `Stream.forget`."""
        if self.in_flight.get(request.id) is request:
            del self.in_flight[request.id]
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
                StreamRequest(self, message).begin()

    def _end_reading(self, _: object) -> None:
        self._has_read_all = True
        self._end_writing()

    def _end_writing(self) -> None:
        if self._has_read_all and not self.in_flight:
            self._outbox.put_nowait(None)

    async def _write_all(self) -> None:
        while (outgoing := await self._outbox.get()) is not None:
            try:
                await self._context.write(outgoing.response)
            except Exception as error:  # grpc names no class for it
                raise _ClientGoneError from error
            self.ahead.release(outgoing.held_bytes)
            if outgoing.is_last:
                self._slots.release()
