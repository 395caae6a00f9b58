"""The gRPC server, in front of a queue and a registry.

    listen() -> not ready -> say_ready() ... -> drain()

It does not know whether queue and registry are those of this process or of another one.
"""

import asyncio

import structlog
from grpc import aio
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection

from figment.v1 import image_service_pb2, model_service_pb2
from server.addresses import joined, split, why_unavailable
from server.errors import CannotStart
from server.models.registry import ModelRegistry
from server.rpc.image_service import ImageService
from server.rpc.interceptor import Interceptor
from server.rpc.limits import Limits
from server.rpc.model_service import ModelService
from server.rpc.pipeline import Pipeline, Services
from server.rpc.receiving import Receiving
from server.rpc.resets import Resets
from server.rpc.streaming import Streams
from server.rpc.transport import transport_options
from server.scheduling.admission import Admission
from server.scheduling.request import Queue
from server.settings import ServerSettings, TraceSettings
from server.telemetry.metrics import Metrics
from server.telemetry.tracing import Tracer

IMAGE_SERVICE = image_service_pb2.DESCRIPTOR.services_by_name["ImageService"]
MODEL_SERVICE = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]

REFUSE_S = 0.1
"""Seconds in which a draining server answers new calls, with UNAVAILABLE, before it closes its connections."""

FAREWELL_S = 0.5
"""Seconds for the last bytes of answered calls to leave."""

RESETS_A_CALL = 8
"""Calls that a client may take back in five seconds, for each that it may make at once."""

log = structlog.get_logger()

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class GrpcServer:
    """One gRPC server."""

    def __init__(self, settings: ServerSettings, registry: ModelRegistry, queue: Queue, metrics: Metrics) -> None:
        self._settings = settings
        self._registry = registry
        limits = Limits(settings.limits, settings.batch.max_size)
        queue_images = settings.limits.queue_images
        self._admission = Admission(metrics, queue_images, settings.limits.model_queue_images or queue_images)
        self._tracer = tracer_of(settings.traces)
        pipeline = Pipeline(queue, self._admission, metrics)
        services = Services(registry, self._admission, pipeline, limits, metrics)
        self._streams = Streams(services)
        self._health = health.aio.HealthServicer()
        receiving = Receiving(settings.limits.received_bytes, settings.limits.receive_bytes, settings.limits.receive_s)
        resets = Resets(RESETS_A_CALL * settings.limits.connection_calls)
        self._interceptor = Interceptor(metrics, self._tracer, registry.known_names, receiving, resets)
        self._server = aio.server(options=transport_options(settings))
        self._interceptor.add_service(self._server, IMAGE_SERVICE, ImageService(services, self._streams))
        self._interceptor.add_service(self._server, MODEL_SERVICE, ModelService(registry, limits))
        self._interceptor.add_service(self._server, HEALTH, self._health)
        names = (IMAGE_SERVICE.full_name, MODEL_SERVICE.full_name, HEALTH.full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def listen(self, address: str) -> str:
        """Listen on host:port and answer that nothing is ready yet; returns the address with the port that it got.

        Raises: AddressTaken.
        """
        await self.say_ready(False)
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError:  # which tells no reason
            raise why_unavailable("address", address) from None
        await self._server.start()
        return joined(split(address)[0], port)

    async def say_ready(self, is_ready: bool) -> None:
        """Tell health checks whether the server and its models are ready."""
        state = SERVING if is_ready else NOT_SERVING
        ready = self._registry.ready_names()
        for name in self._registry.names:
            state_of_one = state if name in ready else NOT_SERVING
            await self._health.set(f"{IMAGE_SERVICE.full_name}/{name}", state_of_one)
        for service in ("", IMAGE_SERVICE.full_name):
            await self._health.set(service, state)

    def waited_for(self) -> dict[str, int]:
        """The calls that have not ended, and the images that are admitted."""
        return {"calls": self._interceptor.running, "images": self._admission.images}

    async def drain(self) -> None:
        """Refuse new requests, read no further from streams, and finish what was admitted within `drain_s`."""
        drain_s = self._settings.drain_s
        await self._health.enter_graceful_shutdown()
        self._admission.close("the server is draining: try another one")
        self._streams.drain()
        # While `stop` tells clients to connect elsewhere, gRPC ends calls that come on the old connections as CANCELLED. Who
        # calls again and again is refused first, and waits a moment before he tries once more.
        await asyncio.sleep(min(REFUSE_S, drain_s))
        # `stop` refuses new calls at once; it would wait for idle Watch and reflection calls too, so once ours are done a
        # second one cuts it short, with time enough for their last bytes.
        stopping = asyncio.create_task(self._server.stop(drain_s))
        await self._interceptor.wait_until_idle(drain_s)
        if self._admission.images:
            log.warning("drained too late: admitted images are lost", images=self._admission.images, drain_s=drain_s)
        await self._server.stop(min(FAREWELL_S, drain_s))
        await stopping
        if self._tracer:
            await asyncio.to_thread(self._tracer.close)


def tracer_of(settings: TraceSettings) -> Tracer | None:
    """What traces as `settings` say. Raises: CannotStart, if they need what is not installed."""
    if settings.endpoint is None:
        return None
    try:
        from server.telemetry.otel import OtelTracer
    except ImportError as error:
        problem = f"traces.endpoint: needs {error.name}, which is not installed: pip install 'figment[otel]'"
        raise CannotStart(problem) from None
    return OtelTracer(settings.endpoint, settings.ratio)
