"""The processes of a server of several gateways: `python -m server.child <role> <name> <settings> ...`.

    engines <listener> <pools>      load the models, answer the links of all gateways
    gateway <N> <path> <pool>       speak gRPC, submit to the engines
    alone                            speak gRPC, with engines of its own

Standard input tells what to load, in its first line, and when to stop, by its end, so that no child outlives its
supervisor. What is to be known of a child it writes to standard output, a status a line, and at least one a second: one that
says nothing hangs.
"""

import asyncio
import os
import select
import socket
import sys
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from server.app import run
from server.errors import CannotStart
from server.models.load_plan import LoadPlan
from server.models.registry import ModelRegistry
from server.processes.engine_client import ENGINE_LOST, EngineClient
from server.processes.engine_server import EngineServer
from server.processes.heartbeat import Heartbeat
from server.processes.shared_memory import SharedMemoryPool
from server.processes.status import ProcessStatus
from server.rpc.server import GrpcServer
from server.settings import ServerSettings
from server.telemetry.logs import PrintedLines, set_up_logging
from server.telemetry.metric_files import count_in
from server.telemetry.metrics import Metrics

log = structlog.get_logger()


class SupervisorLink:
    """What a child hears from its supervisor, `plan` first, and what it reports to it."""

    def __init__(self) -> None:
        # Whatever else writes to standard output goes to the log's stream, so that it is not mixed up with statuses.
        self._output = os.dup(1)
        os.dup2(2, 1)
        os.write(self._output, b"\n")  # the end of what was written there so far
        self._heartbeat = Heartbeat(self._beat)
        self.plan = LoadPlan.model_validate_json(_line_of(0))

    def report(self, status: ProcessStatus) -> None:
        """Write a status to the supervisor; nothing happens if it is gone, of which standard input tells."""
        content = status.line()
        with suppress(BrokenPipeError):
            while content:
                content = content[os.write(self._output, content) :]

    async def stop_wanted_or(self, other: Awaitable[None]) -> None:
        """Return when the supervisor wants this process to end, or has ended itself, or `other` has ended."""
        ends = {asyncio.create_task(_stdin_ends()), asyncio.ensure_future(other)}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)

    def start_heartbeat(self) -> None:
        """Say that the event loop runs, again and again."""
        self._heartbeat.start()

    def _beat(self) -> None:
        # A supervisor that stands still must not hold this process up when the pipe is full.
        if select.select([], [self._output], [], 0)[1]:
            self.report(ProcessStatus())


async def serve_engines(
    supervisor: SupervisorLink, settings: ServerSettings, metrics: Metrics, listener: int, pools: Sequence[int]
) -> None:
    """Be the engines' process: links come from the socket `listener`, gateway N shares the memory `pools[N]`."""
    from server.runtime.engines import Engines  # the gateways that share them do without onnxruntime
    from server.runtime.loading import loaded

    supervisor.start_heartbeat()
    engines = Engines(settings, metrics)
    await engines.start(supervisor.plan)
    registry = engines.registry
    engine_server = EngineServer([SharedMemoryPool(descriptor) for descriptor in pools], registry, engines.queue)
    server = await asyncio.get_running_loop().create_unix_server(engine_server.new, sock=socket.socket(fileno=listener))
    problem = registry.problem()
    supervisor.report(
        ProcessStatus(ready=not problem, problem=problem, versions=loaded(registry), device=engines.device)
    )
    await supervisor.stop_wanted_or(engines.failed())
    server.close()
    await engines.stop()


async def serve_alone(supervisor: SupervisorLink, settings: ServerSettings, metrics: Metrics) -> None:
    """Be a gateway that has engines of its own."""
    from server.runtime.engines import Engines  # as above
    from server.runtime.loading import loaded

    supervisor.start_heartbeat()
    engines = Engines(settings, metrics)
    registry = engines.registry
    gateway = GrpcServer(settings, registry, engines.queue, metrics)
    # Not before it can serve: the others that listen on the port can.
    await engines.start(supervisor.plan)
    await gateway.listen(settings.address)
    problem = registry.problem()
    await gateway.say_ready(not problem)
    supervisor.report(
        ProcessStatus(ready=not problem, problem=problem, versions=loaded(registry), device=engines.device)
    )
    await supervisor.stop_wanted_or(engines.failed())
    await gateway.drain()
    await engines.stop()


async def serve_gateway(
    supervisor: SupervisorLink, settings: ServerSettings, metrics: Metrics, number: int, path: str, pool: int
) -> None:
    """Be gateway `number`: the engines listen at `path`, and share the memory `pool`."""
    supervisor.start_heartbeat()
    registry = ModelRegistry()
    changed: asyncio.Queue[bool] = asyncio.Queue()
    client = EngineClient(
        number, SharedMemoryPool(pool), registry, lambda: changed.put_nowait(True), lambda: changed.put_nowait(False)
    )
    gateway = GrpcServer(settings, registry, client, metrics)
    await gateway.listen(settings.address)

    async def stay_connected() -> None:
        while True:
            # The supervisor holds the listening socket: while the engines start, this waits in its backlog.
            await asyncio.get_running_loop().create_unix_connection(lambda: client, path)
            is_ready = True
            while is_ready:
                is_ready = await changed.get()
                problem = registry.problem() if is_ready else ENGINE_LOST
                await gateway.say_ready(not problem)
                supervisor.report(ProcessStatus(ready=not problem, problem=problem))

    staying = asyncio.create_task(stay_connected())
    await supervisor.stop_wanted_or(staying)
    if staying.done():
        staying.result()
    await gateway.drain()
    staying.cancel()


async def _stdin_ends() -> None:
    """Return when the supervisor closes this process's standard input, or has ended itself."""
    readable = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, readable.set)
    await readable.wait()
    asyncio.get_running_loop().remove_reader(0)


def _line_of(descriptor: int) -> bytes:
    """The first line, and not a byte more: the rest is for the event loop."""
    line = bytearray()
    while (byte := os.read(descriptor, 1)) not in (b"", b"\n"):
        line += byte
    return bytes(line)


def main(arguments: Sequence[str]) -> None:
    """Be the process that the arguments say."""
    role, name, settings_json, *rest = arguments
    settings = ServerSettings.model_validate_json(settings_json)
    set_up_logging()
    sys.stderr = PrintedLines()
    structlog.contextvars.bind_contextvars(process=name)
    supervisor = SupervisorLink()
    try:
        count_in(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]), name)
        metrics = Metrics()
        metrics.start()
        try:
            if role == "engines":
                listener, *pools = map(int, rest)
                run(serve_engines(supervisor, settings, metrics, listener, pools))
            elif role == "alone":
                run(serve_alone(supervisor, settings, metrics))
            else:
                number, path, pool = rest
                run(serve_gateway(supervisor, settings, metrics, int(number), path, int(pool)))
        finally:
            metrics.stop()
    except CannotStart as error:
        supervisor.report(ProcessStatus(error=str(error)))
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
