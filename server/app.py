"""One server in one process, from settings to the last answer.

    settings -> engines, gateway -> listen -> load models -> ready ... -> drain -> stop

The order of stopping: not ready any more, streams read no further, new requests are refused, admitted ones finish,
then the engines' workers end.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import structlog

from server.models.folder import log_strays, scan_folder
from server.models.load_plan import LoadPlan
from server.processes.heartbeat import Heartbeat
from server.processes.supervisor import Supervisor
from server.rpc.server import GrpcServer
from server.runtime.engines import Engines
from server.settings import ServerSettings
from server.telemetry.gpus import gpu_reader
from server.telemetry.metrics import Metrics
from server.telemetry.metrics_http import MetricsPage

Result = TypeVar("Result")

log = structlog.get_logger()


class App:
    """A server that listens; made by `serving`."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.engines = Engines(settings, self.metrics)
        self.registry = self.engines.registry
        self.address = settings.address
        self.metrics_address = settings.metrics_address
        self._grpc_server = GrpcServer(settings, self.registry, self.engines.queue, self.metrics)
        self.model_names: list[str] = []
        self._state = "starting"
        self._heartbeat = Heartbeat()
        gpus = list if self.engines.device == "cpu" else gpu_reader()
        self._page = MetricsPage(self.metrics.registry, self.problem, gpus=gpus)

    async def start(self) -> None:
        """Listen, load the models, and say that the server is ready, or why it is not.

        Raises: CannotStart.
        """
        scan = await asyncio.to_thread(scan_folder, self.settings.models)
        log_strays(scan)
        self.metrics.engine_restarts.labels(self.engines.device)  # 0: with the engines the whole process would end
        self.metrics.start()
        self._heartbeat.start()
        self.metrics_address = self._page.listen(self.settings.metrics_address)
        self.address = await self._grpc_server.listen(self.settings.address)
        await self.engines.start(LoadPlan.of_folder(scan))
        self.model_names = self.registry.ready_names()
        self._state = self.registry.problem()
        await self._grpc_server.say_ready(not self._state)
        facts = {"address": self.address, "metrics": self.metrics_address, "device": self.engines.device}
        if self._state:
            log.error("not ready", **facts, reason=self._state)
        else:
            log.info("ready", **facts)

    async def stop(self) -> None:
        """Drain: finish what was admitted within `drain_s`, refuse the rest, then stop listening."""
        log.info("draining", drain_s=self.settings.drain_s)
        self._state = "draining"
        await self._grpc_server.drain()
        self._page.stop()
        await self.engines.stop()
        self._heartbeat.stop()
        self.metrics.stop()
        log.info("stopped")

    def problem(self) -> str:
        """Why the server cannot serve, or "" if it can; for any thread to ask."""
        return self._state or self._heartbeat.problem()

    def refusals(self) -> list[str]:
        """A line for each version that is not served."""
        return self.registry.refusals()

    def waited_for(self) -> dict[str, int]:
        """What is still under way, as a line of the log tells it."""
        return self._grpc_server.waited_for()

    def kill(self) -> None:
        """End at once what would outlive this process: nothing."""

    async def failed(self) -> None:
        """Return when the server cannot go on, which only a bug can cause."""
        await self.engines.failed()


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """`asyncio.run` on the event loop that servers use: uvloop, a tenth cheaper for each call, where there is one."""
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop

    return uvloop.run(main)


class Server(Protocol):
    """What there is to know of a server, of one process or several."""

    settings: ServerSettings
    address: str
    metrics_address: str
    model_names: list[str]

    async def start(self) -> None:
        """Return when the server is ready, or has a problem. Raises: CannotStart."""

    def problem(self) -> str:
        """Why it cannot serve, or "" if it can."""

    def refusals(self) -> list[str]:
        """A line for each version that is not served."""

    async def stop(self) -> None:
        """Drain, then stop."""

    def waited_for(self) -> Mapping[str, object]:
        """What is still under way, as a line of the log tells it."""

    def kill(self) -> None:
        """End at once what would outlive this process; it ends itself then."""

    async def failed(self) -> None:
        """Return when the server cannot go on."""


@asynccontextmanager
async def serving(settings: ServerSettings, on_made: Callable[[Server], object] = id) -> AsyncIterator[Server]:
    """A server of one process or of several gateways that is ready, unless it has a `problem`; drained and stopped when
    the block ends.

    Raises: CannotStart.
    """
    server: Server = App(settings) if settings.gateways == 1 else Supervisor(settings)
    on_made(server)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
