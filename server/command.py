"""`figment serve`: serve a folder of models until SIGTERM or SIGINT."""

import asyncio
import signal
from contextlib import suppress
from typing import ClassVar

import structlog
from pydantic_settings import BaseSettings

from server.app import Server, run, serving
from server.errors import CannotStart
from server.logs import set_up_logging
from server.settings import ServerSettings

STOPS = (signal.SIGTERM, signal.SIGINT)


class Serve(BaseSettings, ServerSettings):
    """Serve the models of a folder by gRPC, and metrics by HTTP."""

    errors: ClassVar[tuple[type[Exception], ...]] = (CannotStart,)

    def warn(self, message: str) -> None:
        """Put what is odd about the command line or the variables into the log."""
        set_up_logging()
        structlog.get_logger().warning("settings look wrong", message=message)

    def cli_cmd(self) -> None:
        """Serve until a signal comes, then drain."""
        set_up_logging()
        run(_serve(self))


async def _serve(settings: ServerSettings) -> None:
    structlog.get_logger().info("settings", **settings.model_dump(mode="json"))
    serving_task = asyncio.current_task()
    assert serving_task, "run by an event loop"
    loop = asyncio.get_running_loop()

    def stop() -> None:
        """End the start, or the serving, but not the draining that follows."""
        for number in STOPS:
            loop.add_signal_handler(number, lambda: None)
        serving_task.cancel()

    for number in STOPS:
        loop.add_signal_handler(number, stop)
    with suppress(asyncio.CancelledError):
        async with serving(settings) as server:
            print(_welcome(server), flush=True)
            await server.failed()
            raise RuntimeError("the server cannot go on; the log says why")


def _welcome(app: Server) -> str:
    """What to try now."""
    if problem := app.problem():
        return f"listening on {app.address}, but not ready: {problem}"
    names = app.model_names
    at = "" if app.address.endswith(":50051") else f" --address {app.address}"
    first, last = names[0], names[-1]
    return "\n".join(
        [
            f"serving {', '.join(names)} on {app.address}, metrics on http://{app.metrics_address}/metrics; try:",
            f"  figment generate {first} --count 16 --seed 7 --out sheet.png{at}",
            f"  figment interpolate {last} --start-seed 1 --end-seed 2 --out morph.gif{at}",
            f"  figment models{at}",
            *(f"not served: {refusal}" for refusal in app.refusals()),
        ]
    )
