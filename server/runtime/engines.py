"""The engines of one process, the queue in front of them, and the models that they hold.

    settings, plan -> an Engine for each device -> load_all() -> worker threads take from one Batcher

Everything that a gateway asks for by name, it finds in the registry; everything it wants run, it submits to the queue.
"""

import asyncio
import platform
from importlib.metadata import version

from figment.machine import usable_cpus
from server.errors import DeviceMissing
from server.models.load_plan import LoadPlan
from server.models.registry import ModelRegistry
from server.runtime.devices import devices
from server.runtime.engine import Engine
from server.runtime.loading import load_all
from server.runtime.sessions import VERSION
from server.scheduling.batcher import Batcher
from server.scheduling.fair_queue import FairQueue
from server.settings import ServerSettings
from server.telemetry.metrics import Metrics


class Engines:
    """The devices that `settings` name; to be made in the event loop that is to use their queue.

    Raises: DeviceMissing.
    """

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        names = devices(settings.device)
        threads = settings.threads or usable_cpus()
        batch = settings.batch
        if batch.cuda_graphs and names == ["cpu"]:
            raise DeviceMissing("batch.cuda_graphs: was asked for, but the device is the CPU")
        self._engines = [
            Engine(name, threads, settings.threads_per_run, batch.sizes, batch.max_size, cuda_graphs=batch.cuda_graphs)
            for name in names
        ]
        self.device = ",".join(names)
        self.registry = ModelRegistry()
        self.queue = Batcher(metrics, FairQueue(settings.shares))

    async def start(self, plan: LoadPlan) -> None:
        """Load the models, then run what is submitted. Raises: CannotStart, if what was served before cannot be."""
        settings = self._settings
        await asyncio.to_thread(
            load_all, settings.models, plan, settings.variant, self._engines, self.registry, self._metrics
        )
        self._metrics.build_info.labels(version("figment"), platform.python_version(), VERSION).set(1)
        for engine in self._engines:
            self._metrics.engine_workers.labels(engine.device).set(engine.workers)
            self.queue.start(engine, engine.workers)

    async def failed(self) -> None:
        """Return when a worker has ended, which it does before `stop` only if it has a bug."""
        await self.queue.failed()

    async def stop(self) -> None:
        """End the workers after their runs."""
        await self.queue.stop("the server has stopped")
