"""A server of several processes: N gateways with engines of their own or with those of one more process, and this one.

    own:      settings -> gateways -> ready ... -> gateways drain
    shared:   settings -> sockets, shared memory -> engines, gateways -> ready ... -> gateways drain -> engines stop

On a CPU each gateway has engines: a run in the process that wants it costs less than any hand-over, and threads of one
interpreter stand in each other's way. A GPU has one owner, whose batches are made of all gateways' requests.
The gateways listen on one port (SO_REUSEPORT), so the kernel deals connections out to them. A process that ends by itself
is started again: with a gateway only its own connections are lost, and while shared engines start again requests end as
unavailable.
"""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from server.arena import make_shared_file
from server.devices import devices
from server.errors import AddressTaken, CannotStart
from server.gpus import gpu_reader
from server.metrics import declare_engine_restarts
from server.metrics_page import MetricsPage, forget_process, registry_of_processes
from server.settings import ServerSettings

GRACE_S = 10.0
"""What a child gets beyond `drain_s` before it is killed."""

STEADY_S = 5.0
"""A child that lived shorter is started again only after a pause."""

log = structlog.get_logger()


class Child:
    """One process, started again whenever it ends before it is told to.

    command     what to run
    on_change   called in the event loop when it has said something
    on_end      called in the event loop with the number of a process that has ended
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        files: list[int],
        on_change: Callable[[], None],
        on_end: Callable[["Child", int], None],
    ) -> None:
        self.name = name
        self.is_ready = False
        self.facts: dict[str, Any] = {}
        self.failures = 0
        self._command = command
        self._environment = environment
        self._files = files
        self._on_change = on_change
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._is_stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name=f"watch-{name}", daemon=True)

    def start(self) -> None:
        """Start it, and keep it running."""
        self._thread.start()

    async def stop(self, timeout_s: float) -> None:
        """Tell it to stop, and kill it when it has not done so after `timeout_s`."""
        self._is_stopping.set()
        process = self._process
        if process and process.stdin:
            process.stdin.close()
        await asyncio.to_thread(self._thread.join, timeout_s)
        if self._thread.is_alive() and self._process:
            log.warning("process killed", process=self.name, after_s=timeout_s)
            self._process.kill()
            await asyncio.to_thread(self._thread.join)

    @property
    def pid(self) -> int | None:
        """Number of the process that runs."""
        return self._process.pid if self._process else None

    def _watch(self) -> None:
        """The life of a thread: run the process, hear what it says, again."""
        pause_s = 0.1
        while not self._is_stopping.is_set():
            started_s = time.monotonic()
            with subprocess.Popen(  # noqa: S603  # this package's own module
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
                pass_fds=self._files,
                start_new_session=True,
            ) as process:
                assert process.stdin, "a pipe"
                assert process.stdout, "a pipe"
                self._process = process
                if self._is_stopping.is_set():
                    process.stdin.close()
                for line in process.stdout:
                    self._loop.call_soon_threadsafe(self._hear, json.loads(line))
                code = process.wait()
            self._loop.call_soon_threadsafe(self._ended, process.pid, code)
            pause_s = 0.1 if time.monotonic() - started_s > STEADY_S else min(2 * pause_s, STEADY_S)
            self._is_stopping.wait(pause_s)

    def _hear(self, facts: dict[str, Any]) -> None:
        self.facts |= facts
        self.is_ready = facts.get("ready", False)
        self._on_change()

    def _ended(self, pid: int, code: int) -> None:
        self.is_ready = False
        if not self._is_stopping.is_set():
            self.failures += 1
            log.error("process ended", process=self.name, pid=pid, exit_code=code)
        self._on_end(self, pid)


class Supervisor:
    """A server of several processes; made by `serving`."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.address = settings.address
        self.metrics_address = settings.metrics_address
        self.model_names: list[str] = []
        self._folder = Path(tempfile.mkdtemp(prefix="figment-"))
        registry = registry_of_processes(self._folder)
        self._engine_restarts = declare_engine_restarts(registry)
        self._is_on_cpu = devices(settings.device) == ["cpu"]
        self._page = MetricsPage(registry, self._are_ready, self._pids, list if self._is_on_cpu else gpu_reader())
        self._changed = asyncio.Event()
        self.gateways: list[Child] = []
        """The children that speak gRPC."""
        self.engines: Child | None = None
        """The child that has the devices, where the gateways share them."""
        self._files: list[int] = []
        self._sockets: list[socket.socket] = []

    @property
    def _children(self) -> list[Child]:
        return [self.engines, *self.gateways] if self.engines else self.gateways

    async def start(self) -> None:
        """Start all processes; returns when the server is ready.

        Raises: AddressTaken, DeviceMissing.
        """
        self.metrics_address = self._page.listen(self.settings.metrics_address)
        self.address = self._reserve_port()
        if self.settings.engines == "own" or (self.settings.engines == "auto" and self._is_on_cpu):
            for number in range(self.settings.gateways):
                self.gateways.append(self._spawn("gateway", self._share(), [], str(number)))
        else:
            self._spawn_sharing()
        while not self._are_ready():
            self._changed.clear()
            await self._changed.wait()
            for child in self._children:
                if child.failures:
                    problem = f"{child.name}: the process ended at its start, the log says why"
                    raise CannotStart(child.facts.get("error", problem))
        self.model_names = self._children[0].facts["models"]
        self._engine_restarts.labels(self._children[0].facts["device"])
        log.info("ready", address=self.address, metrics=self.metrics_address, gateways=self.settings.gateways)

    async def stop(self) -> None:
        """Let all gateways drain, then end the engines."""
        log.info("draining", drain_s=self.settings.drain_s)
        timeout_s = self.settings.drain_s + GRACE_S
        await asyncio.gather(*(child.stop(timeout_s) for child in self.gateways))
        if self.engines:
            await self.engines.stop(GRACE_S)
        self._page.stop()
        for held in self._sockets:
            held.close()
        for file in self._files:
            os.close(file)
        shutil.rmtree(self._folder)
        log.info("stopped")

    async def failed(self) -> None:
        """Never return: what fails is started again."""
        await asyncio.Event().wait()

    def _pids(self) -> list[int]:
        """Numbers of the processes that run."""
        return [child.pid for child in self._children if child.pid]

    def _are_ready(self) -> bool:
        return len(self.gateways) == self.settings.gateways and all(child.is_ready for child in self._children)

    def _spawn_sharing(self) -> None:
        """Start the engines' process and the gateways that are linked to it."""
        path = str(self._folder / "engines.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(2 * self.settings.gateways)
        self._sockets.append(listener)
        self._files = [make_shared_file() for _ in range(self.settings.gateways)]
        self.engines = self._spawn("engines", self.settings, [listener.fileno(), *self._files])
        for number, file in enumerate(self._files):
            self.gateways.append(self._spawn("gateway", self._share(), [file], str(number), path))

    def _spawn(self, role: str, settings: ServerSettings, files: list[int], *names: str) -> Child:
        command = [sys.executable, "-m", "server.child", role, settings.model_dump_json(), *names, *map(str, files)]
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(self._folder)}
        name = "-".join([role, *names[:1]])
        child = Child(name, command, environment, files, self._changed.set, self._ended)
        child.start()
        return child

    def _ended(self, child: Child, pid: int) -> None:
        forget_process(self._folder, pid)
        if child.failures and "device" in child.facts:
            self._engine_restarts.labels(child.facts["device"]).inc()
        self._changed.set()

    def _share(self) -> ServerSettings:
        """The settings of each gateway: the port that all have, and its part of the queue."""
        limits, gateways = self.settings.limits, self.settings.gateways
        of_a_model = limits.model_queue_images
        shared = limits.model_copy(
            update={
                "queue_images": max(1, limits.queue_images // gateways),
                "model_queue_images": of_a_model and max(1, of_a_model // gateways),
            }
        )
        return self.settings.model_copy(update={"limits": shared, "address": self.address})

    def _reserve_port(self) -> str:
        """Check that nobody listens at the address, and hold its port for the gateways; returns host:port.

        Raises: AddressTaken.
        """
        host, _, port = self.settings.address.rpartition(":")
        try:
            family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
                alone.listen()
                taken = alone.getsockname()
            held = socket.socket(family, kind)
            self._sockets.append(held)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(taken)
        except OSError:
            raise AddressTaken(
                f"address: cannot listen on {self.settings.address}: is a server running there?"
            ) from None
        return f"{host}:{taken[1]}"
