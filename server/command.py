"""`figment serve`: serve a folder of models until SIGTERM or SIGINT."""

import asyncio
import logging
import signal
import sys
from typing import ClassVar

import structlog
from pydantic_settings import BaseSettings

from server.app import AddressTaken, App, serving
from server.engine import DeviceMissing
from server.settings import ServerSettings


class Serve(BaseSettings, ServerSettings):
    """Serve the models of a folder by gRPC, and metrics by HTTP."""

    errors: ClassVar[tuple[type[Exception], ...]] = (AddressTaken, DeviceMissing)

    def cli_cmd(self) -> None:
        """Serve until a signal comes, then drain."""
        _set_up_logging()
        asyncio.run(_serve(self))


async def _serve(settings: ServerSettings) -> None:
    structlog.get_logger().info("settings", **settings.model_dump(mode="json"))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings) as app:
        print(_welcome(app), flush=True)
        ends = {asyncio.create_task(stop.wait()), asyncio.create_task(app.failed())}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            raise RuntimeError("the queue's task has ended; the log says why")


def _welcome(app: App) -> str:
    """What to try now."""
    names = app.catalogue.ready_names()
    if not names:
        return f"serving no model yet: figment export <run> --models {app.settings.models} makes one"
    at = "" if app.address.endswith(":50051") else f" --address {app.address}"
    first, last = names[0], names[-1]
    return "\n".join(
        [
            f"serving {', '.join(names)} on {app.address}, metrics on http://{app.metrics_address}/metrics; try:",
            f"  figment generate {first} --count 16 --seed 7 --out sheet.png{at}",
            f"  figment interpolate {last} --start-seed 1 --end-seed 2 --out morph.gif{at}",
            f"  figment models{at}",
        ]
    )


def _set_up_logging() -> None:
    """Lines for people on a terminal, JSON elsewhere; on standard error."""
    people = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if people else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer() if people else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
