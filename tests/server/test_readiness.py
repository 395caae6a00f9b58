"""A server that cannot serve says so, and why: in its health by HTTP and gRPC, its answers, its log and its first words."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from figment.v1 import image_service_pb2 as pb
from figment.v1 import model_service_pb2
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from figment.v1.model_service_pb2_grpc import ModelServiceStub
from server.app import Server
from server.command import _welcome
from server.errors import CannotStart, DeviceMissing
from tests.fakes.servers import healthz, running_server

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING

KINDS = [{}, {"gateways": 2, "engines": "own"}, {"gateways": 2, "engines": "shared"}]
"""Settings of one process, several gateways, and several that share engines."""


@pytest.fixture
def two(models: Path, tmp_path: Path) -> Path:
    """A folder with the models gan and vae, to be spoiled."""
    for name in ("gan", "vae"):
        shutil.copytree(models / name, tmp_path / "models" / name)
    return tmp_path / "models"


@contextmanager
def connected(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


def health(channel: grpc.Channel, model: str = "") -> int:
    service = f"figment.v1.ImageService/{model}" if model else ""
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service)).status


def spoil(version: Path) -> None:
    (version / "generator.onnx").write_bytes(b"spoiled")


@pytest.mark.parametrize("settings", KINDS[:2])
def test_a_server_of_no_models_is_not_ready_and_says_what_makes_one(tmp_path: Path, settings: dict[str, object]):
    (tmp_path / "Photos").mkdir()
    with capture_logs() as lines, running_server(tmp_path, **settings) as server, connected(server) as channel:
        status, body = healthz(server)
        assert status == 503
        assert f"nothing in {tmp_path} is a model: 'Photos': not allowed as a model's name" in body
        assert f"figment export <run> --models {tmp_path} makes one" in body
        assert health(channel) == NOT_SERVING
        with pytest.raises(grpc.RpcError, match="there is no 'vae'; this server has no model yet"):
            ImageServiceStub(channel).Generate(pb.GenerateRequest(model="vae", count=1))
        assert "but not ready" in _welcome(server)
    said = {line["event"]: line for line in lines}
    assert "is a model" in said["not ready"]["reason"]
    assert "'Photos'" in said["not served"]["reason"]
    assert "ready" not in said


@pytest.mark.parametrize("settings", KINDS)
def test_a_server_whose_versions_are_all_refused_is_not_ready_and_says_why(two: Path, settings: dict[str, object]):
    for name in ("gan", "vae"):
        spoil(two / name / "1")
    with running_server(two, **settings) as server, connected(server) as channel:
        status, body = healthz(server)
        assert status == 503
        assert "none can be served: gan 1: generator.onnx is damaged" in body
        assert "vae 1: generator.onnx is damaged" in body
        assert [health(channel), health(channel, "vae")] == [NOT_SERVING, NOT_SERVING]
        for ask in (
            lambda: ImageServiceStub(channel).Generate(pb.GenerateRequest(model="vae", count=1)),
            lambda: ModelServiceStub(channel).GetModel(model_service_pb2.GetModelRequest(model="vae")),
        ):
            with pytest.raises(grpc.RpcError, match=r"vae \(any version\) is not loaded: version 1: generator.onnx is"):
                ask()
        assert "but not ready: " in _welcome(server)
        assert "generator.onnx is damaged" in _welcome(server)


@pytest.mark.parametrize("settings", KINDS[::2])
def test_one_model_that_is_refused_is_told_and_the_others_are_served(two: Path, settings: dict[str, object]):
    spoil(two / "vae" / "1")
    with running_server(two, **settings) as server, connected(server) as channel:
        assert healthz(server) == (200, "serving\n")
        assert [health(channel), health(channel, "gan"), health(channel, "vae")] == [SERVING, SERVING, NOT_SERVING]
        assert ImageServiceStub(channel).Generate(pb.GenerateRequest(model="gan", count=2)).images.count == 2
        assert server.model_names == ["gan"]
        assert "not served: vae 1: generator.onnx is damaged" in _welcome(server)


@pytest.mark.parametrize("settings", KINDS)
def test_a_server_without_a_folder_of_models_does_not_start(tmp_path: Path, settings: dict[str, object]):
    with (
        pytest.raises(CannotStart, match=r"^models: there is no folder .*nowhere"),
        running_server(tmp_path / "nowhere", **settings),
    ):
        pass


def test_a_version_that_cannot_be_read_is_refused_with_the_reason(two: Path, monkeypatch: pytest.MonkeyPatch):
    open_any = os.open

    def open_others(path: str, flags: int, mode: int = 0o777) -> int:
        if str(path).endswith("vae/1/generator.onnx"):
            raise PermissionError(13, "Permission denied", str(path))
        return open_any(path, flags, mode)

    monkeypatch.setattr(os, "open", open_others)
    with running_server(two) as server:
        (refusal,) = server.refusals()
    assert refusal.startswith("vae 1: ")
    assert refusal.endswith("cannot be read: Permission denied")


def test_nothing_is_left_of_a_server_that_cannot_start(two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    def devices(_: str) -> list[str]:
        raise DeviceMissing("device: cuda was asked for")

    with running_server(two, gateways=2) as server:
        taken = server.address
        with pytest.raises(CannotStart), running_server(two, gateways=2, address=taken):
            pass
        assert len(list(temporary.iterdir())) == 1
    far = temporary / ("x" * 90)
    far.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(far))
    with (
        pytest.raises(CannotStart, match=r"no socket can be made at .*TMPDIR"),
        running_server(two, gateways=2, engines="shared"),
    ):
        pass
    far.rmdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr("server.processes.supervisor.devices", devices)
    with pytest.raises(DeviceMissing), running_server(two, gateways=2, engines="shared"):
        pass
    assert not list(temporary.iterdir())


def test_an_event_loop_that_hangs_is_told(two: Path, monkeypatch: pytest.MonkeyPatch):
    with running_server(two) as server:
        assert healthz(server)[0] == 200
        monkeypatch.setattr("server.processes.heartbeat.STUCK_S", -1.0)
        status, body = healthz(server)
        assert status == 503
        assert "the event loop has not run for" in body
