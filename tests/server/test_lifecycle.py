"""Health, reflection, metrics, models, starting and stopping."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from figment.v1 import image_service_pb2 as pb
from figment.v1 import model_service_pb2
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from figment.v1.model_service_pb2_grpc import ModelServiceStub
from server.app import App, serving
from server.errors import AddressTaken, DeviceMissing
from server.runtime.devices import devices
from server.runtime.loading import load_all
from server.settings import ServerSettings
from tests.fakes.servers import running_server


def page(app: App, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{app.metrics_address}{path}") as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("service", ["", "figment.v1.ImageService", "figment.v1.ImageService/vae"])
def test_a_ready_server_is_healthy(channel: grpc.Channel, service: str):
    reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_a_model_that_is_not_served_has_no_health(channel: grpc.Channel):
    request = health_pb2.HealthCheckRequest(service="figment.v1.ImageService/nope")
    with pytest.raises(grpc.RpcError) as refused:
        health_pb2_grpc.HealthStub(channel).Check(request)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_tells_the_services_and_their_messages(channel: grpc.Channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="figment.v1.ImageService"),
    ]
    listed, described = stub.ServerReflectionInfo(iter(asked))
    names = {service.name for service in listed.list_services_response.service}
    assert {"figment.v1.ImageService", "figment.v1.ModelService", "grpc.health.v1.Health"} <= names
    assert "figment.v1.AdminService" not in names
    file = FileDescriptorProto.FromString(described.file_descriptor_response.file_descriptor_proto[0])
    assert file.package == "figment.v1"


def test_models_are_listed_with_their_facts_and_limits(registry: ModelServiceStub):
    listed = registry.ListModels(model_service_pb2.ListModelsRequest())
    assert [(model.name, model.family, model.default_version) for model in listed.models] == [
        ("gan", "gan", "1"),
        ("hybrid", "hybrid", "1"),
        ("labelled-gan", "gan", "1"),
        ("labelled-vae", "vae", "1"),
        ("vae", "vae", "1"),
    ]
    known = registry.GetModel(model_service_pb2.GetModelRequest(model="labelled-vae"))
    assert list(known.manifest.labels) == [str(digit) for digit in range(10)]
    assert (known.manifest.height, known.manifest.noise_dim, known.manifest.latent_dim) == (16, 17, 16)
    assert known.limits.unary_images == 1024
    assert known.limits.stream_images == 1_000_000
    with pytest.raises(grpc.RpcError) as refused:
        registry.GetModel(model_service_pb2.GetModelRequest(model="nope"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_padded_batches_give_the_same_images_and_count_their_padding(only_vae: Path):
    request = pb.GenerateRequest(model="vae", seed=7, count=5)
    with running_server(only_vae) as plain, grpc.insecure_channel(plain.address) as channel:
        expected = ImageServiceStub(channel).Generate(request)
    with (
        running_server(only_vae, batch={"max_size": 8, "sizes": (4, 8)}) as padded,
        grpc.insecure_channel(padded.address) as channel,
    ):
        got = ImageServiceStub(channel).Generate(request)
        assert padded.metrics.registry.get_sample_value("figment_padding_images_total", {"model": "vae"}) == 3
    assert got.images.data[0] == expected.images.data[0]


def test_healthz_follows_the_server(server: App):
    assert page(server, "/healthz") == (200, "serving\n")
    assert page(server, "/else")[0] == 404


def test_a_server_that_starts_says_unavailable_until_its_models_are_loaded(
    only_vae: Path, monkeypatch: pytest.MonkeyPatch
):
    is_loading, may_load = asyncio.Event(), threading.Event()

    async def scenario() -> None:
        app = App(ServerSettings(models=only_vae, address="127.0.0.1:0", metrics_address="127.0.0.1:0"))
        loop = asyncio.get_running_loop()

        def load_slowly(*arguments: object) -> None:
            loop.call_soon_threadsafe(is_loading.set)
            may_load.wait()
            load_all(*arguments)

        monkeypatch.setattr("server.runtime.engines.load_all", load_slowly)
        starting = asyncio.create_task(app.start())
        await is_loading.wait()
        async with grpc.aio.insecure_channel(app.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            assert (
                await health.Check(health_pb2.HealthCheckRequest())
            ).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert (await asyncio.to_thread(page, app, "/healthz"))[0] == 503
            with pytest.raises(grpc.aio.AioRpcError, match="the server is starting"):
                await ImageServiceStub(channel).Generate(pb.GenerateRequest(model="vae", count=1))
            may_load.set()
            await starting
            assert (
                await ImageServiceStub(channel).Generate(pb.GenerateRequest(model="vae", count=1))
            ).images.count == 1
        await app.stop()

    asyncio.run(scenario())


def test_an_address_in_use_is_a_clear_error(models: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        async def start(**addresses: str) -> None:
            free = {"address": "127.0.0.1:0", "metrics_address": "127.0.0.1:0"}
            async with serving(ServerSettings.model_validate({"models": models, **free, **addresses})):
                pass

        for name in ("address", "metrics_address"):
            with pytest.raises(AddressTaken, match=f"^{name}: cannot listen on {address}"):
                asyncio.run(start(**{name: address}))


def test_a_gpu_that_is_not_there_is_a_loud_error():
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU here")
    with pytest.raises(DeviceMissing, match="device: cuda:0,cuda:1 was asked for, but"):
        devices("cuda:0,cuda:1")
    assert devices("auto") == devices("cpu") == ["cpu"]


async def test_an_idle_watch_does_not_hold_up_a_stop(only_gan: Path):
    settings = ServerSettings(models=only_gan, address="127.0.0.1:0", metrics_address="127.0.0.1:0", drain_s=60)
    async with serving(settings) as app, grpc.aio.insecure_channel(app.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await asyncio.wait_for(app.stop(), 30)


def test_sigterm_drains_and_ends_with_status_0(models: Path):
    command = "import sys; from figment.cli.command import main; sys.exit(main(sys.argv[1:]))"
    options = ["--models", str(models), "--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, "-c", command, "serve", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    welcome = [process.stdout.readline() for _ in range(4)]
    address = welcome[0].split(" on ")[1].split(",")[0]
    assert "figment generate gan --count 16 --seed 7" in welcome[1]
    assert "figment models" in welcome[3]
    with grpc.insecure_channel(address) as channel:
        stub = ImageServiceStub(channel)
        request = pb.StreamGenerateRequest(id="bulk", request=pb.GenerateRequest(model="hybrid", count=5_000))
        pieces = stub.StreamGenerate(iter([request]))
        received = next(pieces).response.images.count
        process.send_signal(signal.SIGTERM)
        received += sum(piece.response.images.count for piece in pieces)
    assert received == 5_000
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    assert '"event": "draining"' in log
    assert '"event": "stopped"' in log
