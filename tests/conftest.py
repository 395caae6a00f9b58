"""Real models, trained for seconds, and a real server of them: shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

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
