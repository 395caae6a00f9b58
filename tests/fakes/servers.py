"""Real servers of the models of tests, and what anybody asks of one."""

import asyncio
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import grpc
from prometheus_client.parser import text_string_to_metric_families

from server.app import App, Server, run, serving
from server.processes.supervisor import Supervisor
from server.settings import ServerSettings

MODELS: dict[str, dict[str, object]] = {
    "vae": {"family": "vae", "images": 16_000},
    "gan": {"family": "gan", "images": 640},
    "hybrid": {"family": "hybrid", "images": 4_000},
    "labelled-gan": {"family": "gan", "images": 640, "conditional": True, "size": 16},
    "labelled-vae": {"family": "vae", "images": 2_000, "conditional": True, "size": 16},
}


@contextmanager
def running_server(models: Path, **settings: object) -> Iterator[App]:
    """A server on free ports, with an event loop of its own in a thread."""
    chosen = {"models": models, "address": "127.0.0.1:0", "metrics_address": "127.0.0.1:0", **settings}
    ready: Future[App] = Future()
    stop: Future[None] = Future()

    async def serve() -> None:
        try:
            async with serving(ServerSettings.model_validate(chosen)) as app:
                ready.set_result(app)
                await asyncio.wrap_future(stop)
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    thread = threading.Thread(target=run, args=(serve(),))
    thread.start()
    try:
        yield ready.result(timeout=60)
    finally:
        stop.set_result(None)
        thread.join()


def healthz(server: Server) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{server.metrics_address}/healthz", timeout=30) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def connect(several: Supervisor) -> grpc.Channel:
    """A connection of its own, which the kernel gives to one of the gateways."""
    return grpc.insecure_channel(several.address, [("grpc.use_local_subchannel_pool", 1)])


def metric(several: Supervisor, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    with urllib.request.urlopen(f"http://{several.metrics_address}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())
