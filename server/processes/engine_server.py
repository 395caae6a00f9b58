"""The engines' end of the links to all gateways: what they submit goes into the queue in front of the engines."""

import asyncio

import structlog

from figment.v1.model_service_pb2 import GetModelResponse
from server.errors import Unavailable
from server.models.layout import OUTPUTS, fields
from server.models.registry import ModelRegistry
from server.processes.ipc import CANCEL, DONE, FAILED, HELLO, SUBMIT, VERSION, Connection, Kind, graphs_of, names_of
from server.processes.shared_memory import SharedMemoryPool
from server.scheduling.batcher import Batcher
from server.scheduling.request import Request

log = structlog.get_logger()


class EngineServer:
    """The engines' end of all links."""

    def __init__(self, pools: list[SharedMemoryPool], registry: ModelRegistry, queue: Batcher) -> None:
        self.pools = pools
        self.registry = registry
        self.queue = queue
        self.graphs = list(graphs_of(registry))
        self.connections: dict[int, _GatewayConnection] = {}

    def new(self) -> asyncio.Protocol:
        """The end of a link that was just accepted."""
        return _GatewayConnection(self)


class _GatewayConnection(Connection):
    """The engines' end of the link to one gateway."""

    def __init__(self, server: EngineServer) -> None:
        super().__init__()
        self._server = server
        self._number = -1
        self._requests: dict[int, Request] = {}

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the requests of a gateway that is gone."""
        if self._server.connections.get(self._number) is self:
            del self._server.connections[self._number]
            log.info("gateway gone", gateway=self._number, requests=len(self._requests))
        for request in self._requests.values():
            self._server.queue.cancel(request)
        self._requests.clear()

    def receive(self, kind: Kind, payload: bytes) -> None:
        """Greet a gateway, or queue or cancel one of its requests."""
        if kind is Kind.SUBMIT:
            self._submit(*SUBMIT.unpack(payload))
        elif kind is Kind.CANCEL:
            (number,) = CANCEL.unpack(payload)
            if number in self._requests:
                self._server.queue.cancel(self._requests.pop(number))
                self.send(Kind.DONE, DONE.pack(number, 0.0, 0.0, 0))
        elif kind is Kind.HELLO:
            (self._number,) = HELLO.unpack(payload)
            before = self._server.connections.get(self._number)
            if before:  # its gateway is dead, and its memory is the new one's
                before.connection_lost(None)
            self._server.connections[self._number] = self
            for name, status, model in self._server.registry.versions():
                version = GetModelResponse(versions=[status], engine=model.engine if model else "")
                version.manifest.name = name
                if model:
                    version.manifest.CopyFrom(model.manifest)
                variant = model.variant if model else ""
                self.send(Kind.VERSION, VERSION.pack(variant.encode()) + version.SerializeToString())
            self.send(Kind.READY, self._server.registry.nothing.encode())

    def _submit(self, number: int, place: int, rows: int, mask: int, offset: int, caller: int) -> None:
        pool, queue = self._server.pools[self._number], self._server.queue
        graph, model = self._server.graphs[place]
        layout, end = fields(model.manifest, names_of(mask), rows)
        inputs = {name: pool.array(offset + at, dtype, shape) for name, dtype, shape, at in layout}
        outputs, _ = fields(model.manifest, OUTPUTS[graph.role], rows, end)

        def finish(request: Request) -> None:
            del self._requests[number]
            if error := request.error:
                self.send(Kind.FAILED, FAILED.pack(number, isinstance(error, Unavailable)) + str(error).encode())
                return
            for name, dtype, shape, at in outputs:
                pool.array(offset + at, dtype, shape)[...] = request.outputs[name]
            self.send(Kind.DONE, DONE.pack(number, request.queue_s, request.compute_s, request.batch_size))

        self._requests[number] = queue.submit(graph, inputs, caller, finish)
