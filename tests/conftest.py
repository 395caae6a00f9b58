"""Real models, trained for seconds, and a real server of them: shared by all tests."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree

import grpc
import pytest
from filelock import FileLock

from export.publish import publish
from export.source import from_run
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from figment.v1.model_service_pb2_grpc import ModelServiceStub
from server.app import App
from tests.fakes.servers import MODELS, running_server
from training.settings import TrainSettings
from training.trainer import train

# The servers of tests are on this machine, wherever the environment's proxies lead.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost,::1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs trained models as slow, and put files in an order in which no process waits for another.

    First the file that takes longest, which has the models trained; then slow ones that need none of them, those that do, and
    at last the quick ones, so that processes end together.
    """
    trained = [
        item for item in items if isinstance(item, pytest.Function) and {"runs", "models"} & set(item.fixturenames)
    ]
    for item in trained:
        item.add_marker(pytest.mark.slow)
    waiting = {item.path for item in trained}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.name != "test_end_to_end.py", item.path not in slow, item.path in waiting))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run of each of MODELS on scikit-learn's digits."""

    def make(folder: Path) -> None:
        for name, settings in MODELS.items():
            common = {"data": "digits", "out": folder / name, "latent_dim": 16, "batch": 32, "threads": 1}
            train(TrainSettings.model_validate({**common, **settings}))

    return made_once(tmp_path_factory, "runs", make)


@pytest.fixture(scope="session")
def models(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with version 1 of each of MODELS."""

    def make(folder: Path) -> None:
        for name in MODELS:
            publish(from_run(runs / name), folder, name)

    return made_once(tmp_path_factory, "models", make)


@pytest.fixture(scope="session")
def only_gan(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with gan alone: each graph that a server loads is measured for a tenth of a second."""
    return copytree(models / "gan", tmp_path_factory.mktemp("only") / "gan").parent


@pytest.fixture(scope="session")
def only_vae(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with vae alone."""
    return copytree(models / "vae", tmp_path_factory.mktemp("only") / "vae").parent


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first of the processes that run the tests fills, and the others wait for."""
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    folder = (factory.getbasetemp().parent if is_worker else factory.getbasetemp()) / name
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            half = folder.with_suffix(".half")
            make(half)
            half.rename(folder)
    return folder


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
def registry(channel: grpc.Channel) -> ModelServiceStub:
    """A stub of ModelService."""
    return ModelServiceStub(channel)
