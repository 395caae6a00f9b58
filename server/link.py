"""The link between a gateway's process and the engines' process: records on a socket, arrays in shared memory.

    gateway:  submit() -> inputs into the arena -> SUBMIT ...            ... DONE -> outputs out of the arena -> finish()
    engines:  SUBMIT -> views of the arena -> Batcher.submit() -> outputs into the arena -> DONE

A gateway greets with its number and is told all versions of all models. When a side vanishes, the other one ends what it
shared with it: the engines forget the requests of a dead gateway, a gateway ends its requests as unavailable and connects
again. Nothing is pickled; every record is a length, a kind and a payload.
"""

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable, Hashable
from enum import IntEnum
from typing import cast

import numpy as np
import structlog

from figment.v1.model_service_pb2 import GetModelResponse
from server.arena import ARENA_BYTES, Arena
from server.batcher import Batcher
from server.catalogue import Catalogue, LoadedModel
from server.errors import EngineFailed, Unavailable
from server.layout import INPUTS, OUTPUTS, Field, fields
from server.turns import Arrays, Graph, Request

ENGINE_LOST = "the engines' process has ended and is started again: try again"

_HEAD = struct.Struct("<IB")
_HELLO = struct.Struct("<I")
_SUBMIT = struct.Struct("<IIIBQq")  # number, graph, rows, mask of inputs, offset, caller
_CANCEL = struct.Struct("<I")
_FAILED = struct.Struct("<I?")  # number, unavailable; then the problem
_DONE = struct.Struct("<IddI")  # number, queue_s, compute_s, batch_size

log = structlog.get_logger()


class Kind(IntEnum):
    """What a record says."""

    HELLO = 1
    VERSION = 2
    READY = 3
    SUBMIT = 4
    CANCEL = 5
    DONE = 6
    FAILED = 7


class _End(asyncio.Protocol):
    """One end of a link: cuts what comes into records, and sends what one round of the event loop has to say at once."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._incoming = bytearray()
        self._outgoing: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit

    def data_received(self, data: bytes) -> None:
        incoming = self._incoming
        incoming += data
        start = 0
        while len(incoming) - start >= _HEAD.size:
            length, kind = _HEAD.unpack_from(incoming, start)
            end = start + _HEAD.size + length
            if len(incoming) < end:
                break
            self.receive(Kind(kind), bytes(incoming[start + _HEAD.size : end]))
            start = end
        del incoming[:start]

    def receive(self, kind: Kind, payload: bytes) -> None:
        """Act on one record."""
        raise NotImplementedError

    def send(self, kind: Kind, payload: bytes) -> None:
        """Send a record at the end of this round of the event loop."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(_HEAD.pack(len(payload), kind) + payload)

    def _flush(self) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()


class _Sent:
    """A request that the engines have, or that waits for room in the arena."""

    __slots__ = ("inputs_mask", "offset", "outputs", "request", "size")

    def __init__(self, request: Request, inputs_mask: int, outputs: list[Field], size: int) -> None:
        self.request = request
        self.inputs_mask = inputs_mask
        self.outputs = outputs
        self.size = size
        self.offset: int | None = None


class EngineLink(_End):
    """The gateway's end: a queue for those who submit, and the source of the catalogue.

    on_ready    called when the engines have told all their models
    on_lost     called when the engines are gone
    """

    def __init__(
        self, number: int, arena: Arena, catalogue: Catalogue, on_ready: Callable[[], None], on_lost: Callable[[], None]
    ) -> None:
        super().__init__()
        self._number = number
        self._arena = arena
        self._catalogue = catalogue
        self._told = Catalogue()
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._graphs: dict[Graph, tuple[int, LoadedModel]] = {}
        self._sent: dict[int, _Sent] = {}
        self._numbers: dict[Request, int] = {}
        self._waiting: deque[tuple[int, _Sent]] = deque()
        self._next_number = 0
        self._is_ready = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the engines, who tell their models."""
        super().connection_made(transport)
        self._told = Catalogue()
        self.send(Kind.HELLO, _HELLO.pack(self._number))

    def connection_lost(self, error: Exception | None) -> None:
        """End all requests as unavailable."""
        self._is_ready = False
        self._incoming.clear()
        self._waiting.clear()
        sent, self._sent, self._numbers = self._sent, {}, {}
        for entry in sent.values():
            self._free(entry)
            self._end(entry.request, Unavailable(ENGINE_LOST))
        self._on_lost()

    def submit(
        self, graph: Graph, inputs: Arrays, caller: Hashable, finish: Callable[[Arrays | Exception], None]
    ) -> Request:
        """Queue N rows in the engines' process; as `Batcher.submit`.

        Errors: EngineFailed, Unavailable.
        """
        count = len(next(iter(inputs.values())))
        request = Request(graph, inputs, count, caller, finish, time.monotonic())
        if not self._is_ready:
            asyncio.get_running_loop().call_soon(self._end, request, Unavailable(ENGINE_LOST))
            return request
        manifest = self._graphs[graph][1].manifest
        mask = sum(1 << INPUTS.index(name) for name in inputs)
        _, size = fields(manifest, _names(mask), count)
        outputs, size = fields(manifest, OUTPUTS[graph.role], count, size)
        entry = _Sent(request, mask, outputs, size)
        if size > ARENA_BYTES:
            problem = f"{count} rows take {size} bytes, a gateway of several has {ARENA_BYTES}"
            asyncio.get_running_loop().call_soon(self._end, request, EngineFailed(problem))
            return request
        self._next_number = (self._next_number + 1) & 0xFFFFFFFF
        self._sent[self._next_number] = entry
        self._numbers[request] = self._next_number
        self._waiting.append((self._next_number, entry))
        self._send_waiting()
        return request

    def cancel(self, request: Request) -> None:
        """Give a request up. Its memory is free once the engines say that they have given it up too."""
        if request.is_ended:
            return
        request.is_ended = True
        number = self._numbers.pop(request, None)
        if number is None:
            return
        if self._sent[number].offset is None:
            del self._sent[number]
        else:
            self.send(Kind.CANCEL, _CANCEL.pack(number))

    def receive(self, kind: Kind, payload: bytes) -> None:
        """Take a version into the catalogue, or end a request."""
        if kind is Kind.DONE:
            self._done(*_DONE.unpack(payload))
        elif kind is Kind.FAILED:
            number, is_unavailable = _FAILED.unpack_from(payload)
            problem = payload[_FAILED.size :].decode()
            self._end(self._pop(number).request, Unavailable(problem) if is_unavailable else EngineFailed(problem))
        elif kind is Kind.VERSION:
            version = GetModelResponse.FromString(payload)
            model = LoadedModel(version.manifest, version.engine) if version.engine else None
            self._told.put(version.manifest.name, version.versions[0], model)
        elif kind is Kind.READY:
            self._graphs = {graph: (place, model) for place, (graph, model) in enumerate(_graphs(self._told))}
            self._catalogue.adopt(self._told)
            self._is_ready = True
            self._on_ready()

    def _send_waiting(self) -> None:
        """Send what waits for room, in order, as far as there is room."""
        while self._waiting:
            number, entry = self._waiting[0]
            request = entry.request
            if not request.is_ended:
                entry.offset = self._arena.take(entry.size)
                if entry.offset is None:
                    return
                place, model = self._graphs[request.graph]
                layout, _ = fields(model.manifest, _names(entry.inputs_mask), request.count)
                for name, dtype, shape, offset in layout:
                    self._arena.array(entry.offset + offset, dtype, shape)[...] = request.inputs[name]
                caller = hash((self._number, request.caller))
                self.send(
                    Kind.SUBMIT,
                    _SUBMIT.pack(number, place, request.count, entry.inputs_mask, entry.offset, caller),
                )
            self._waiting.popleft()

    def _done(self, number: int, queue_s: float, compute_s: float, batch_size: int) -> None:
        entry = self._sent[number]
        request = entry.request
        request.queue_s, request.compute_s, request.batch_size = queue_s, compute_s, batch_size
        assert entry.offset is not None, "it was sent"
        outputs: Arrays = {}
        if not request.is_ended:
            for name, dtype, shape, offset in entry.outputs:
                outputs[name] = np.array(self._arena.array(entry.offset + offset, dtype, shape))
        self._pop(number)
        self._end(request, outputs)

    def _pop(self, number: int) -> _Sent:
        entry = self._sent.pop(number)
        self._numbers.pop(entry.request, None)
        self._free(entry)
        self._send_waiting()
        return entry

    def _free(self, entry: _Sent) -> None:
        if entry.offset is not None:
            self._arena.give(entry.offset, entry.size)

    def _end(self, request: Request, outcome: Arrays | Exception) -> None:
        if not request.is_ended:
            request.is_ended = True
            request.finish(outcome)


class GatewayLinks:
    """The engines' end of all links."""

    def __init__(self, arenas: list[Arena], catalogue: Catalogue, queue: Batcher) -> None:
        self.arenas = arenas
        self.catalogue = catalogue
        self.queue = queue
        self.graphs = list(_graphs(catalogue))
        self.links: dict[int, _GatewayLink] = {}

    def new(self) -> asyncio.Protocol:
        """The end of a link that was just accepted."""
        return _GatewayLink(self)


class _GatewayLink(_End):
    """The engines' end of the link to one gateway."""

    def __init__(self, links: GatewayLinks) -> None:
        super().__init__()
        self._links = links
        self._number = -1
        self._requests: dict[int, Request] = {}

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the requests of a gateway that is gone."""
        if self._links.links.get(self._number) is self:
            del self._links.links[self._number]
            log.info("gateway gone", gateway=self._number, requests=len(self._requests))
        for request in self._requests.values():
            self._links.queue.cancel(request)
        self._requests.clear()

    def receive(self, kind: Kind, payload: bytes) -> None:
        """Greet a gateway, or queue or cancel one of its requests."""
        if kind is Kind.SUBMIT:
            self._submit(*_SUBMIT.unpack(payload))
        elif kind is Kind.CANCEL:
            (number,) = _CANCEL.unpack(payload)
            if number in self._requests:
                self._links.queue.cancel(self._requests.pop(number))
                self.send(Kind.DONE, _DONE.pack(number, 0.0, 0.0, 0))
        elif kind is Kind.HELLO:
            (self._number,) = _HELLO.unpack(payload)
            before = self._links.links.get(self._number)
            if before:  # its gateway is dead, and its memory is the new one's
                before.connection_lost(None)
            self._links.links[self._number] = self
            for name, status, model in self._links.catalogue.versions():
                version = GetModelResponse(versions=[status], engine=model.engine if model else "")
                version.manifest.name = name
                if model:
                    version.manifest.CopyFrom(model.manifest)
                self.send(Kind.VERSION, version.SerializeToString())
            self.send(Kind.READY, b"")

    def _submit(self, number: int, place: int, rows: int, mask: int, offset: int, caller: int) -> None:
        arena, queue = self._links.arenas[self._number], self._links.queue
        graph, model = self._links.graphs[place]
        layout, end = fields(model.manifest, _names(mask), rows)
        inputs = {name: arena.array(offset + at, dtype, shape) for name, dtype, shape, at in layout}
        outputs, _ = fields(model.manifest, OUTPUTS[graph.role], rows, end)

        def finish(outcome: Arrays | Exception) -> None:
            request = self._requests.pop(number)
            if isinstance(outcome, Exception):
                self.send(Kind.FAILED, _FAILED.pack(number, isinstance(outcome, Unavailable)) + str(outcome).encode())
                return
            for name, dtype, shape, at in outputs:
                arena.array(offset + at, dtype, shape)[...] = outcome[name]
            self.send(Kind.DONE, _DONE.pack(number, request.queue_s, request.compute_s, request.batch_size))

        self._requests[number] = queue.submit(graph, inputs, caller, finish)


def _graphs(catalogue: Catalogue) -> list[tuple[Graph, LoadedModel]]:
    """All graphs in the order in which both ends count them."""
    loaded = [model for _, _, model in catalogue.versions() if model]
    return [(model.graphs[role], model) for model in loaded for role in sorted(model.graphs)]


def _names(mask: int) -> tuple[str, ...]:
    return tuple(name for place, name in enumerate(INPUTS) if mask >> place & 1)
