"""The gateway's end of the link to the engines' process: the queue that a gateway submits to, the source of its registry."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable

import numpy as np
import structlog

from figment.v1.model_service_pb2 import GetModelResponse
from server.arrays import Arrays
from server.errors import EngineFailed, Rejected, ServingError, Unavailable
from server.models.graph import Graph
from server.models.layout import INPUTS, OUTPUTS, Field, fields
from server.models.registry import LoadedModel, ModelRegistry
from server.processes.ipc import CANCEL, DONE, FAILED, HELLO, SUBMIT, VERSION, Connection, Kind, graphs_of, names_of
from server.processes.shared_memory import OutOfSharedMemory, SharedMemoryPool
from server.scheduling.request import Request

ENGINE_LOST = "the engines' process has ended and is started again: try again"
ENGINE_CHANGED = "engine {} is not served any more, its folder was changed before the engines started again: try again"

NO_MEMORY_RETRY_S = 1.0
"""When to come again where there was no memory."""

log = structlog.get_logger()


class _InFlight:
    """A request that the engines have, or that waits for room in the pool."""

    __slots__ = ("inputs_mask", "offset", "outputs", "request", "size")

    def __init__(self, request: Request, inputs_mask: int, outputs: list[Field], size: int) -> None:
        self.request = request
        self.inputs_mask = inputs_mask
        self.outputs = outputs
        self.size = size
        self.offset: int | None = None


class EngineClient(Connection):
    """The gateway's end: a queue for those who submit, and the source of the registry.

    on_ready    called when the engines have told all their models
    on_lost     called when the engines are gone
    """

    def __init__(
        self,
        number: int,
        pool: SharedMemoryPool,
        registry: ModelRegistry,
        on_ready: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        super().__init__()
        self._number = number
        self._pool = pool
        self._registry = registry
        self._next_registry = ModelRegistry()
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._graphs: dict[Graph, tuple[int, LoadedModel]] = {}
        self._in_flight: dict[int, _InFlight] = {}
        self._numbers: dict[Request, int] = {}
        self._waiting: deque[tuple[int, _InFlight]] = deque()
        self._next_number = 0
        self._is_ready = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the engines, who tell their models."""
        super().connection_made(transport)
        self._next_registry = ModelRegistry()
        self.send(Kind.HELLO, HELLO.pack(self._number))

    def connection_lost(self, error: Exception | None) -> None:
        """End all requests as unavailable."""
        self._is_ready = False
        self._incoming.clear()
        self._waiting.clear()
        in_flight, self._in_flight, self._numbers = self._in_flight, {}, {}
        for entry in in_flight.values():
            self._free(entry)
            self._end(entry.request, Unavailable(ENGINE_LOST))
        self._on_lost()

    def submit(self, graph: Graph, inputs: Arrays, caller: Hashable, finish: Callable[[Request], None]) -> Request:
        """As `Queue.submit`, in the engines' process."""
        count = len(next(iter(inputs.values())))
        request = Request(graph, inputs, count, caller, finish, time.monotonic())
        if not self._is_ready:
            return self._end_later(request, Unavailable(ENGINE_LOST))
        if graph not in self._graphs:  # found before the engines started again with what is in the folder now
            problem = f"{graph.model} {graph.version}: {ENGINE_CHANGED.format(graph.engine)}"
            return self._end_later(request, Unavailable(problem))
        manifest = self._graphs[graph][1].manifest
        mask = sum(1 << INPUTS.index(name) for name in inputs)
        _, size = fields(manifest, names_of(mask), count)
        outputs, size = fields(manifest, OUTPUTS[graph.role], count, size)
        entry = _InFlight(request, mask, outputs, size)
        if size > self._pool.size:
            failure = EngineFailed(f"{count} rows take {size} bytes, a gateway of several has {self._pool.size}")
            return self._end_later(request, failure)
        self._next_number = (self._next_number + 1) & 0xFFFFFFFF
        self._in_flight[self._next_number] = entry
        self._numbers[request] = self._next_number
        self._waiting.append((self._next_number, entry))
        self._send_waiting()
        return request

    def cancel(self, request: Request) -> None:
        """As `Queue.cancel`; its memory is free once the engines say that they have given it up too."""
        if request.is_ended:
            return
        request.is_ended = True
        number = self._numbers.pop(request, None)
        if number is None:
            return
        if self._in_flight[number].offset is None:
            del self._in_flight[number]
        else:
            self.send(Kind.CANCEL, CANCEL.pack(number))

    def receive(self, kind: Kind, payload: bytes) -> None:
        """Take a version into the registry, or end a request."""
        if kind is Kind.DONE:
            self._done(*DONE.unpack(payload))
        elif kind is Kind.FAILED:
            number, is_unavailable = FAILED.unpack_from(payload)
            problem = payload[FAILED.size :].decode()
            self._end(self._pop(number).request, Unavailable(problem) if is_unavailable else EngineFailed(problem))
        elif kind is Kind.VERSION:
            (variant,) = VERSION.unpack_from(payload)
            version = GetModelResponse.FromString(payload[VERSION.size :])
            loaded = LoadedModel(version.manifest, version.engine, variant.rstrip(b"\0").decode())
            model = loaded if version.engine else None
            self._next_registry.put(version.manifest.name, version.versions[0], model)
        elif kind is Kind.READY:
            self._graphs = {
                graph: (place, model) for place, (graph, model) in enumerate(graphs_of(self._next_registry))
            }
            self._next_registry.nothing = payload.decode()
            self._registry.adopt(self._next_registry)
            self._is_ready = True
            self._on_ready()

    def _send_waiting(self) -> None:
        """Send what waits for room, in order, as far as there is room."""
        while self._waiting:
            number, entry = self._waiting[0]
            request = entry.request
            if not request.is_ended:
                try:
                    entry.offset = self._pool.alloc(entry.size)
                except OutOfSharedMemory as error:
                    self._refuse(number, error)
                    continue
                if entry.offset is None:
                    return
                place, model = self._graphs[request.graph]
                layout, _ = fields(model.manifest, names_of(entry.inputs_mask), request.count)
                for name, dtype, shape, offset in layout:
                    self._pool.array(entry.offset + offset, dtype, shape)[...] = request.inputs[name]
                caller = hash((self._number, request.caller))
                self.send(
                    Kind.SUBMIT, SUBMIT.pack(number, place, request.count, entry.inputs_mask, entry.offset, caller)
                )
            self._waiting.popleft()

    def _refuse(self, number: int, error: OutOfSharedMemory) -> None:
        """End the first request that waits: there is no memory for it."""
        log.error("no shared memory", reason=str(error))
        self._waiting.popleft()
        request = self._in_flight.pop(number).request
        self._numbers.pop(request, None)
        refusal = Rejected(f"this machine has no memory for more images: {error}", NO_MEMORY_RETRY_S)
        self._end_later(request, refusal)

    def _done(self, number: int, queue_s: float, compute_s: float, batch_size: int) -> None:
        entry = self._in_flight[number]
        request = entry.request
        request.queue_s, request.compute_s, request.batch_size = queue_s, compute_s, batch_size
        assert entry.offset is not None, "it was sent"
        if not request.is_ended:
            for name, dtype, shape, offset in entry.outputs:
                request.outputs[name] = np.array(self._pool.array(entry.offset + offset, dtype, shape))
        self._pop(number)
        self._end(request, None)

    def _pop(self, number: int) -> _InFlight:
        entry = self._in_flight.pop(number)
        self._numbers.pop(entry.request, None)
        self._free(entry)
        self._send_waiting()
        return entry

    def _free(self, entry: _InFlight) -> None:
        if entry.offset is not None:
            self._pool.free(entry.offset, entry.size)

    def _end_later(self, request: Request, error: ServingError) -> Request:
        """End a request that may have been submitted just now, by somebody who does not know it yet."""
        asyncio.get_running_loop().call_soon(self._end, request, error)
        return request

    def _end(self, request: Request, error: ServingError | None) -> None:
        if not request.is_ended:
            request.is_ended = True
            request.error = error
            request.finish(request)
