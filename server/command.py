"""`figment serve`: serve a folder of models until SIGTERM or SIGINT."""

import asyncio
import os
import signal
from contextlib import redirect_stderr, suppress
from typing import ClassVar

import structlog
from pydantic_settings import BaseSettings

from server.addresses import reachable
from server.app import Server, run, serving
from server.errors import CannotStart
from server.settings import ServerSettings
from server.telemetry.logs import PrintedLines, set_up_logging

STOPS = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger()


class Serve(BaseSettings, ServerSettings):
    """Serve the models of a folder by gRPC, and metrics by HTTP."""

    errors: ClassVar[tuple[type[Exception], ...]] = (CannotStart,)

    def warn(self, message: str) -> None:
        """Put what is odd about the command line or the variables into the log."""
        set_up_logging()
        structlog.get_logger().warning("settings look wrong", message=message)

    def cli_cmd(self) -> None:
        """Serve until a signal comes, then drain; a second one tells what is waited for, a third one ends it at once."""
        set_up_logging()
        with redirect_stderr(PrintedLines()):
            run(_serve(self))


async def _serve(settings: ServerSettings) -> None:
    log.info("settings", **settings.model_dump(mode="json"))
    stops = _Stops()
    loop = asyncio.get_running_loop()
    for number in STOPS:
        loop.add_signal_handler(number, stops.receive, number)
    with suppress(asyncio.CancelledError):
        async with serving(settings, stops.know) as server:
            print(_welcome(server), flush=True)
            await server.failed()
            raise RuntimeError("the server cannot go on; the log says why")


class _Stops:
    """What signals do: the first ends the start, or the serving, but not the draining that follows."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._server: Server | None = None
        self._received = 0

    def know(self, server: Server) -> None:
        """It is this server that signals are about."""
        self._server = server

    def receive(self, number: signal.Signals) -> None:
        """Take the next step."""
        self._received += 1
        if self._received == 1:
            assert self._task, "run by an event loop"
            self._task.cancel()
            return
        waited_for = self._server.waited_for() if self._server else {}
        if self._received == 2:
            log.warning("still draining; one more signal ends it at once, and what is waited for is lost", **waited_for)
            return
        log.error("ended at once", signal=number.name, **waited_for)
        if self._server:
            self._server.kill()
        # With the status of one whom the signal itself has ended; not even threads that compute are waited for.
        os._exit(128 + number)


def _welcome(app: Server) -> str:
    """What to try now."""
    if problem := app.problem():
        return f"listening on {app.address}, but not ready: {problem}"
    names = app.model_names
    address, metrics = reachable(app.address), reachable(app.metrics_address)
    at = "" if address == ServerSettings.model_fields["address"].default else f" --address {address}"
    first, last = names[0], names[-1]
    return "\n".join(
        [
            f"serving {', '.join(names)} on {app.address}, metrics on http://{metrics}/metrics; try:",
            f"  figment generate {first} --count 16 --seed 7 --out sheet.png{at}",
            f"  figment interpolate {last} --start-seed 1 --end-seed 2 --out morph.gif{at}",
            f"  figment models{at}",
            *(f"not served: {refusal}" for refusal in app.refusals()),
        ]
    )
