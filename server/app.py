"""One server, from settings to the last answer.

    settings -> engine, batcher, catalogue -> services -> listen -> load models -> ready ... -> drain -> stop

The order of stopping: not ready any more, streams read no further, new requests are refused, admitted ones finish,
then the queue's task and the engine's thread end.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from figment.v1 import image_service_pb2, model_service_pb2
from figment.v1.image_service_pb2_grpc import add_ImageServiceServicer_to_server
from figment.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from server.batcher import Batcher
from server.calls import Calls
from server.catalogue import Catalogue
from server.engine import Engine
from server.image_service import ImageService
from server.limits import Limits
from server.metrics import Metrics, MetricsPage
from server.model_service import ModelService
from server.settings import ServerSettings
from server.stages import Stages
from server.streams import Streams

IMAGE_SERVICE = image_service_pb2.DESCRIPTOR.services_by_name["ImageService"].full_name
MODEL_SERVICE = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name

FAREWELL_S = 0.5
"""Seconds for the last bytes of answered calls to leave."""

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

log = structlog.get_logger()


class AddressTaken(Exception):
    """An address to listen on cannot be had."""


class App:
    """A server that listens; made by `serving`."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.engine = Engine(settings.device, settings.threads, settings.batch.sizes, settings.batch.max_size)
        self.batcher = Batcher(self.engine, self.metrics, settings.batch.max_size, settings.limits.queue_images)
        self.catalogue = Catalogue(settings.models, self.engine, self.metrics)
        self.address = settings.address
        self.metrics_address = settings.metrics_address
        self._limits = Limits(settings.limits, settings.batch.max_size)
        stages = Stages(self.metrics)
        self._streams = Streams(self.catalogue, self.batcher, stages, self._limits, self.metrics)
        self._images = ImageService(self.catalogue, self.batcher, stages, self._limits, self._streams)
        self._health = health.aio.HealthServicer()
        self._is_ready = False
        self._working: asyncio.Task[None] | None = None
        self._page = MetricsPage(self.metrics, lambda: self._is_ready)
        self._calls = Calls(self.metrics, self.catalogue.label)
        self._server = aio.server(
            interceptors=[self._calls],
            options=[("grpc.max_receive_message_length", settings.limits.receive_bytes), ("grpc.so_reuseport", 0)],
        )
        add_ImageServiceServicer_to_server(self._images, self._server)
        add_ModelServiceServicer_to_server(ModelService(self.catalogue, self._limits), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (IMAGE_SERVICE, MODEL_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> None:
        """Listen, load the models, and say that the server is ready.

        Raises: AddressTaken.
        """
        for service in ("", IMAGE_SERVICE):
            await self._health.set(service, NOT_SERVING)
        host, _, port = self.settings.metrics_address.rpartition(":")
        try:
            self.metrics_address = f"{host}:{self._page.start(host, int(port))}"
        except OSError as error:
            raise AddressTaken(f"metrics_address: cannot listen on {self.settings.metrics_address}: {error}") from None
        try:
            bound = self._server.add_insecure_port(self.settings.address)
        except RuntimeError:
            raise AddressTaken(
                f"address: cannot listen on {self.settings.address}: is a server running there?"
            ) from None
        self.address = f"{self.settings.address.rpartition(':')[0]}:{bound}"
        await self._server.start()
        self._working = asyncio.create_task(self.batcher.work(), name="batcher")
        await asyncio.to_thread(self.catalogue.load_all)
        for name in self.catalogue.ready_names():
            await self._health.set(f"{IMAGE_SERVICE}/{name}", SERVING)
        for service in ("", IMAGE_SERVICE):
            await self._health.set(service, SERVING)
        self._is_ready = True
        log.info("ready", address=self.address, metrics=self.metrics_address, device=self.engine.device)

    async def stop(self) -> None:
        """Drain: finish what was admitted within `drain_s`, refuse the rest, then stop listening."""
        log.info("draining", drain_s=self.settings.drain_s)
        self._is_ready = False
        await self._health.enter_graceful_shutdown()
        self.batcher.close("the server is draining: try another one")
        self._streams.drain()
        # `stop` refuses new calls at once; it would wait for idle Watch and reflection calls too, so once ours are done a
        # second one cuts it short, with time enough for their last bytes.
        stopping = asyncio.create_task(self._server.stop(self.settings.drain_s))
        await self._calls.wait_until_idle(self.settings.drain_s)
        await self._server.stop(min(FAREWELL_S, self.settings.drain_s))
        await stopping
        self._page.stop()
        if self._working:
            self._working.cancel()
            await asyncio.wait({self._working})
        self.engine.close()
        log.info("stopped")

    async def failed(self) -> None:
        """Return when the queue's task has ended, which it does before `stop` only if it has a bug."""
        if self._working:
            await asyncio.wait({self._working})


@asynccontextmanager
async def serving(settings: ServerSettings) -> AsyncIterator[App]:
    """A server that is ready; drained and stopped when the block ends.

    Raises: AddressTaken, DeviceMissing.
    """
    app = App(settings)
    try:
        await app.start()
        yield app
    finally:
        await app.stop()
