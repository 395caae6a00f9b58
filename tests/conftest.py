"""Real models, trained for seconds, and a real server of them: shared by all tests."""

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from export.publish import publish
from export.source import from_run
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from figment.v1.model_service_pb2_grpc import ModelServiceStub
from server.app import App, run, serving
from server.settings import ServerSettings
from training.settings import TrainSettings
from training.trainer import train

# The servers of tests are on this machine, wherever the environment's proxies lead.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost,::1"

MODELS: dict[str, dict[str, object]] = {
    "vae": {"family": "vae", "images": 16_000},
    "gan": {"family": "gan", "images": 640},
    "hybrid": {"family": "hybrid", "images": 4_000},
    "labelled-gan": {"family": "gan", "images": 640, "conditional": True, "size": 16},
    "labelled-vae": {"family": "vae", "images": 2_000, "conditional": True, "size": 16},
}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run of each of MODELS on scikit-learn's digits."""
    folder = tmp_path_factory.mktemp("runs")
    for name, settings in MODELS.items():
        common = {"data": "digits", "out": folder / name, "latent_dim": 16, "batch": 32}
        train(TrainSettings.model_validate({**common, **settings}))
    return folder


@pytest.fixture(scope="session")
def models(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with version 1 of each of MODELS."""
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        publish(from_run(runs / name), folder, name)
    return folder


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


@pytest.fixture(scope="session")
def server(models: Path) -> Iterator[App]:
    """One server of all models, for tests that leave it as it was."""
    with running_server(models) as app:
        yield app


@pytest.fixture(scope="session")
def channel(server: App) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture(scope="session")
def images(channel: grpc.Channel) -> ImageServiceStub:
    """A stub of ImageService."""
    return ImageServiceStub(channel)


@pytest.fixture(scope="session")
def catalogue(channel: grpc.Channel) -> ModelServiceStub:
    """A stub of ModelService."""
    return ModelServiceStub(channel)
