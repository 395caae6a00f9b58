"""A server of several processes: N gateways with engines of their own or with those of one more process, and this one.

    own:      settings -> gateways -> ready ... -> gateways drain
    shared:   settings -> sockets, shared memory -> engines, gateways -> ready ... -> gateways drain -> engines stop

On a CPU each gateway has engines: a run in the process that wants it costs less than any hand-over, and threads of one
interpreter stand in each other's way. A GPU has one owner, whose batches are made of all gateways' requests.
The gateways listen on one port (SO_REUSEPORT), so the kernel deals connections out to them. A process that ends by itself,
or hangs, is started again: with a gateway only its own connections are lost, and while shared engines start again requests
end as unavailable. What is served is decided at the start, once for all processes: one that is started again serves the
same, or stays out and says why.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress

import structlog

from server.addresses import bound, joined, split, unavailable
from server.errors import CannotStart
from server.models.folder import log_strays, scan_folder
from server.models.load_plan import LoadPlan
from server.processes.child_process import Launch
from server.processes.heartbeat import Heartbeat
from server.processes.process import Process
from server.processes.scratch import Scratch
from server.processes.shared_memory import make_shared_memory
from server.runtime.devices import devices
from server.settings import ServerSettings
from server.telemetry.gpus import gpu_reader
from server.telemetry.metric_files import forget_gauges
from server.telemetry.metrics import declare_engine_restarts
from server.telemetry.metrics_http import MetricsPage, registry_of_processes

GRACE_S = 10.0
"""What a child gets beyond `drain_s` before it is killed."""

log = structlog.get_logger()


class Supervisor:
    """A server of several processes; made by `serving`."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.address = settings.address
        self.metrics_address = settings.metrics_address
        self.model_names: list[str] = []
        self.gateways: list[Process] = []
        """The children that speak gRPC."""
        self.engines: Process | None = None
        """The child that has the devices, where the gateways share them."""
        self._held = ExitStack()
        """What is to be given back at the end, in whatever state the start was left."""
        self._changed = asyncio.Event()
        self._is_stopping = False
        self._has_served = False
        self._heartbeat = Heartbeat(self._beat)

    async def start(self) -> None:
        """Start all processes; returns when the server is ready, or knows why it is not.

        Raises: CannotStart.
        """
        is_on_cpu = devices(self.settings.device) == ["cpu"]
        scan = await asyncio.to_thread(scan_folder, self.settings.models)
        log_strays(scan)
        self._plan = LoadPlan.of_folder(scan)
        self._scratch = Scratch.make()
        self._held.callback(self._scratch.close)
        registry = registry_of_processes(self._scratch.path)
        self._engine_restarts = declare_engine_restarts(registry)
        page = MetricsPage(registry, self.problem, self._pids, list if is_on_cpu else gpu_reader())
        self.metrics_address = page.listen(self.settings.metrics_address)
        self._held.callback(page.stop)
        self.address = self._reserve_port()
        self._heartbeat.start()
        self._held.callback(self._heartbeat.stop)
        if self.settings.engines == "own" or (self.settings.engines == "auto" and is_on_cpu):
            for number in range(self.settings.gateways):
                self.gateways.append(self._spawn("alone", f"gateway-{number}", self._share()))
        else:
            self._spawn_sharing()
        await self._all_have_started()
        of_all = next(child for child in self._children if child.device)
        self.model_names = sorted({version.name for version in of_all.versions if not version.refusal})
        self._engine_restarts.labels(of_all.device)
        self._has_served = bool(self.model_names)
        if problem := self.problem():
            log.error("not ready", address=self.address, metrics=self.metrics_address, reason=problem)
        else:
            facts = {"address": self.address, "metrics": self.metrics_address}
            log.info("ready", **facts, gateways=self.settings.gateways)

    async def stop(self) -> None:
        """Let all gateways drain, then end the engines."""
        log.info("draining", drain_s=self.settings.drain_s)
        self._is_stopping = True
        timeout_s = self.settings.drain_s + GRACE_S
        await asyncio.gather(*(child.stop(timeout_s) for child in self.gateways))
        if self.engines:
            await self.engines.stop(GRACE_S)
        self._held.close()
        log.info("stopped")

    def waited_for(self) -> dict[str, list[str]]:
        """The processes that have not ended yet."""
        return {"processes": [child.name for child in self._children if child.pid]}

    def kill(self) -> None:
        """End all processes at once."""
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._held.close()

    async def failed(self) -> None:
        """Never return: what fails is started again."""
        await asyncio.Event().wait()

    def problem(self) -> str:
        """Why the server cannot serve all that it should, or ""; for any thread to ask."""
        if self._is_stopping:
            return "draining"
        if len(self.gateways) < self.settings.gateways:
            return "starting"
        return self._heartbeat.problem() or "; ".join(
            dict.fromkeys(child.problem for child in self._children if child.problem)
        )

    def refusals(self) -> list[str]:
        """A line for each version that is not served."""
        versions = next((child.versions for child in self._children if child.device), ())
        return [f"{version.name} {version.version}: {version.refusal}" for version in versions if version.refusal]

    @property
    def _children(self) -> list[Process]:
        return [self.engines, *self.gateways] if self.engines else self.gateways

    def _pids(self) -> list[int]:
        """Numbers of the processes that run."""
        return [child.pid for child in self._children if child.pid]

    def _beat(self) -> None:
        for child in self._children:
            child.beat()

    async def _all_have_started(self) -> None:
        """Return when all processes have said whether they serve. Raises: CannotStart, if one has failed."""
        while not all(child.has_started for child in self._children):
            self._changed.clear()
            await self._changed.wait()
            for child in self._children:
                if child.failures:
                    raise CannotStart(child.problem)

    def _spawn_sharing(self) -> None:
        """Start the engines' process and the gateways that are linked to it."""
        path = str(self._scratch.path / "engines.sock")
        listener = self._held.enter_context(socket.socket(socket.AF_UNIX))
        try:
            listener.bind(path)
        except OSError as error:
            problem = f"engines: shared: no socket can be made at {path}: {error}"
            raise CannotStart(f"{problem}: TMPDIR names another folder, of a short name") from None
        listener.listen(2 * self.settings.gateways)
        pools = []
        for _ in range(self.settings.gateways):
            pools.append(make_shared_memory())
            self._held.callback(os.close, pools[-1])
        files = [listener.fileno(), *pools]
        self.engines = self._spawn("engines", "engines", self.settings, *map(str, files), files=files)
        for number, pool in enumerate(pools):
            arguments = (str(number), path, str(pool))
            self.gateways.append(self._spawn("gateway", f"gateway-{number}", self._share(), *arguments, files=[pool]))

    def _spawn(
        self, role: str, name: str, settings: ServerSettings, *arguments: str, files: Sequence[int] = ()
    ) -> Process:
        """Start a process, which finds its modules where this one does, and not first in the current folder."""
        command = [sys.executable, "-P", "-m", "server.child", role, name, settings.model_dump_json(), *arguments]
        environment = {
            **os.environ,
            "PROMETHEUS_MULTIPROC_DIR": str(self._scratch.path),
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
        }
        launch = Launch(command, environment, [self._scratch.lock, *files])
        process = Process(name, launch, self._plan_for, self._ended, self._changed.set)
        process.start()
        return process

    def _plan_for(self, process: Process) -> bytes:
        """What a process is to load that is about to start."""
        plan = self._plan
        if self._has_served:
            others = [child.versions for child in self._children if child.is_ready and child is not process]
            serving = next(filter(None, others), ())
            last = next(child.versions for child in self._children if child.versions)
            plan = plan.for_restart(serving or last, is_served=bool(serving))
        return plan.model_dump_json().encode()

    def _ended(self, process: Process) -> None:
        """Called when a process has ended."""
        forget_gauges(self._scratch.path, process.name)
        if process.failures and process.device:
            self._engine_restarts.labels(process.device).inc()
        self._changed.set()

    def _share(self) -> ServerSettings:
        """The settings of each gateway: the port that all have, and its part of the queue."""
        limits, gateways = self.settings.limits, self.settings.gateways
        of_a_model = limits.model_queue_images
        shared = limits.model_copy(
            update={
                "queue_images": max(1, limits.queue_images // gateways),
                "model_queue_images": of_a_model and max(1, of_a_model // gateways),
                "received_bytes": max(limits.receive_bytes, limits.received_bytes // gateways),
            }
        )
        return self.settings.model_copy(update={"limits": shared, "address": self.address})

    def _reserve_port(self) -> str:
        """Check that nobody listens at the address, and hold its port for the gateways; returns host:port.

        Raises: AddressTaken.
        """
        with bound("address", self.settings.address) as alone:
            try:
                alone.listen()
            except OSError as error:
                raise unavailable("address", self.settings.address, error) from None
            address = joined(split(self.settings.address)[0], alone.getsockname()[1])
        self._held.enter_context(bound("address", address, reuses_port=True))
        return address
