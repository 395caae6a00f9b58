"""The processes of a server of several gateways: `python -m server.child <role> <settings> ...`.

    engines <listener> <arenas>      load the models, answer the links of all gateways
    gateway <N> <path> <arena>       speak gRPC, submit to the engines
    gateway <N>                      speak gRPC, with engines of its own

Standard input tells when to stop, by its end, so that no child outlives its supervisor; what is to be known of a child it
writes to standard output, a JSON object a line.
"""

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Sequence

import structlog

from server.app import run
from server.arena import Arena
from server.catalogue import Catalogue
from server.engine_link import EngineLink
from server.errors import CannotStart
from server.gateway import Gateway
from server.gateway_links import GatewayLinks
from server.logs import set_up_logging
from server.metrics import Metrics
from server.settings import ServerSettings

log = structlog.get_logger()


async def serve_engines(settings: ServerSettings, metrics: Metrics, listener: int, arenas: Sequence[int]) -> None:
    """Be the engines' process: links come from the socket `listener`, gateway N shares the memory `arenas[N]`."""
    from server.engines import Engines  # the gateways that share them do without onnxruntime

    engines = Engines(settings, metrics)
    await engines.start()
    links = GatewayLinks([Arena(descriptor) for descriptor in arenas], engines.catalogue, engines.queue)
    server = await asyncio.get_running_loop().create_unix_server(links.new, sock=socket.socket(fileno=listener))
    _tell(ready=True, models=engines.catalogue.ready_names(), device=engines.device)
    await _stdin_ends_or(engines.failed())
    server.close()
    await engines.stop()


async def serve_alone(settings: ServerSettings, metrics: Metrics) -> None:
    """Be a gateway that has engines of its own."""
    from server.engines import Engines  # as above

    engines = Engines(settings, metrics)
    gateway = Gateway(settings, engines.catalogue, engines.queue, metrics)
    # Not before it can serve: the others that listen on the port can.
    await engines.start()
    await gateway.listen(settings.address)
    await gateway.say_ready(True)
    _tell(ready=True, models=engines.catalogue.ready_names(), device=engines.device)
    await _stdin_ends_or(engines.failed())
    await gateway.drain()
    await engines.stop()


async def serve_gateway(settings: ServerSettings, metrics: Metrics, number: int, path: str, arena: int) -> None:
    """Be gateway `number`: the engines listen at `path`, and share the memory `arena`."""
    catalogue = Catalogue()
    changed: asyncio.Queue[bool] = asyncio.Queue()
    link = EngineLink(
        number, Arena(arena), catalogue, lambda: changed.put_nowait(True), lambda: changed.put_nowait(False)
    )
    gateway = Gateway(settings, catalogue, link, metrics)
    await gateway.listen(settings.address)

    async def stay_connected() -> None:
        while True:
            # The supervisor holds the listening socket: while the engines start, this waits in its backlog.
            await asyncio.get_running_loop().create_unix_connection(lambda: link, path)
            is_ready = True
            while is_ready:
                is_ready = await changed.get()
                await gateway.say_ready(is_ready)
                _tell(ready=is_ready)

    staying = asyncio.create_task(stay_connected())
    await _stdin_ends_or(staying)
    if staying.done():
        staying.result()
    await gateway.drain()
    staying.cancel()


async def _stdin_ends_or(other: Awaitable[None]) -> None:
    """Return when the supervisor wants this process to end or `other` has ended."""
    ends = {asyncio.create_task(_stdin_ends()), asyncio.ensure_future(other)}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)


async def _stdin_ends() -> None:
    """Return when the supervisor closes this process's standard input, or has ended itself."""
    readable = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, readable.set)
    await readable.wait()
    asyncio.get_running_loop().remove_reader(0)


def _tell(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def main(arguments: Sequence[str]) -> None:
    """Be the process that the arguments say."""
    role, settings_json, *rest = arguments
    settings = ServerSettings.model_validate_json(settings_json)
    set_up_logging()
    structlog.contextvars.bind_contextvars(process=role if role == "engines" else f"{role}-{rest[0]}")
    metrics = Metrics()
    metrics.start()
    try:
        if role == "engines":
            listener, *arenas = map(int, rest)
            run(serve_engines(settings, metrics, listener, arenas))
        elif len(rest) == 1:
            run(serve_alone(settings, metrics))
        else:
            number, path, arena = rest
            run(serve_gateway(settings, metrics, int(number), path, int(arena)))
    except CannotStart as error:
        _tell(error=str(error))
        sys.exit(1)
    finally:
        metrics.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
