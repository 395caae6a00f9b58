"""Several gateways, with engines of their own or shared ones: as one server to clients, and what a crash costs."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest

from figment.v1 import image_service_pb2 as pb
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from server.errors import AddressTaken
from server.processes.supervisor import Supervisor
from server.telemetry.metrics import FLUSH_S
from tests.fakes.servers import connect, metric, running_server


@pytest.fixture(scope="module", params=["own", "shared"])
def several(models: Path, request: pytest.FixtureRequest) -> Iterator[Supervisor]:
    """A server of two gateways."""
    with running_server(models, gateways=2, engines=request.param) as several:
        yield several


def becomes(several: Supervisor, expected: float, name: str, **labels: str) -> bool:
    """Whether a metric has the value soon: the processes tell what they have counted once a second."""
    until_s = time.monotonic() + 20
    while (value := metric(several, name, **labels)) != expected and time.monotonic() < until_s:
        time.sleep(0.05)
    return value == expected


def test_all_methods_give_what_a_server_of_one_process_gives(several: Supervisor, images: ImageServiceStub):
    with connect(several) as channel:
        shared = ImageServiceStub(channel)
        ask = pb.GenerateRequest(model="vae", seed=7, count=70)
        drawn, expected = shared.Generate(ask), images.Generate(ask)
        assert drawn.images == expected.images
        assert drawn.engine == expected.engine
        labelled = pb.GenerateRequest(model="labelled-gan", seed=3, count=5)
        assert shared.Generate(labelled).labels == images.Generate(labelled).labels
        uploaded = pb.EncodeRequest(model="vae", images=expected.images)
        encoded = shared.Encode(uploaded)
        assert encoded.mean == images.Encode(uploaded).mean
        decode = pb.DecodeRequest(model="vae", latents=encoded.mean)
        assert shared.Decode(decode).images == images.Decode(decode).images
        reconstruct = pb.ReconstructRequest(model="vae", images=expected.images)
        assert shared.Reconstruct(reconstruct).images == images.Reconstruct(reconstruct).images
        ends = [pb.Endpoint(seeded=pb.SeededImage(seed=seed)) for seed in (1, 2)]
        between = pb.InterpolateRequest(model="hybrid", start=ends[0], end=ends[1], steps=9)
        assert shared.Interpolate(between).images == images.Interpolate(between).images


def test_a_stream_is_answered_in_pieces(several: Supervisor):
    with connect(several) as channel:
        ask = pb.StreamGenerateRequest(id="a", request=pb.GenerateRequest(model="gan", seed=1, count=300))
        answers = list(ImageServiceStub(channel).StreamGenerate(iter([ask])))
    assert sum(answer.response.images.count for answer in answers) == 300
    assert [answer.last for answer in answers] == [False] * (len(answers) - 1) + [True]


def test_bad_input_is_refused_by_the_gateway(several: Supervisor):
    with connect(several) as channel:
        stub = ImageServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="there is no 'nope'; there are gan, hybrid"):
            stub.Generate(pb.GenerateRequest(model="nope", count=1))
        with pytest.raises(grpc.RpcError, match="has no encoder"):
            stub.Encode(pb.EncodeRequest(model="gan"))


def test_metrics_are_those_of_all_processes_together(several: Supervisor):
    time.sleep(2 * FLUSH_S)  # what earlier tests did is told by then
    before = metric(several, "figment_images_total", model="hybrid")
    calls = metric(several, "grpc_server_handled_total", grpc_method="Generate", grpc_code="OK")
    for _ in range(8):
        with connect(several) as channel:
            ImageServiceStub(channel).Generate(pb.GenerateRequest(model="hybrid", count=3))
    assert becomes(several, before + 24, "figment_images_total", model="hybrid")
    assert becomes(several, calls + 8, "grpc_server_handled_total", grpc_method="Generate", grpc_code="OK")
    assert becomes(several, 0, "figment_queue_images")
    assert metric(several, "figment_queue_limit_images") == 8192
    assert metric(several, "figment_engine_restarts_total", device="cpu") == 0


def test_cancelled_requests_leave_the_others_whole(several: Supervisor, images: ImageServiceStub):
    expected = images.Generate(pb.GenerateRequest(model="vae", seed=11, count=200)).images.data[0]
    size = len(expected) // 200

    def ask(number: int) -> int:
        chance = random.Random(number)
        first, count = chance.randrange(150), chance.randint(1, 50)
        request = pb.GenerateRequest(model="vae", seed=11, first_index=first, count=count)
        call = stubs[number % len(stubs)].Generate.future(request, timeout=chance.choice([None, None, 0.002, 0.01]))
        if call.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return 0
        assert call.result().images.data[0] == expected[first * size : (first + count) * size]
        return 1

    with ExitStack() as stack, ThreadPoolExecutor(16) as pool:
        stubs = [ImageServiceStub(stack.enter_context(connect(several))) for _ in range(6)]
        answered = sum(pool.map(ask, range(300)))
    assert answered >= 100
    assert becomes(several, 0, "figment_queue_images")


def test_each_gateway_admits_its_part_of_the_queue(only_gan: Path):
    with running_server(only_gan, gateways=2, limits={"queue_images": 8}) as several, connect(several) as channel:
        stub = ImageServiceStub(channel)
        assert stub.Generate(pb.GenerateRequest(model="gan", count=4)).images.count == 4
        with pytest.raises(grpc.RpcError, match="allowed are 1 to 4"):
            stub.Generate(pb.GenerateRequest(model="gan", count=5))


def test_an_address_in_use_is_a_clear_error(models: Path, several: Supervisor):
    with (
        pytest.raises(AddressTaken, match=f"^address: cannot listen on {several.address}"),
        running_server(models, gateways=2, address=several.address),
    ):
        pass


def test_a_crash_of_the_engines_ends_its_requests_as_unavailable_and_no_others(only_vae: Path):
    with running_server(only_vae, gateways=2, engines="shared") as several, connect(several) as channel:
        assert several.engines
        assert several.engines.pid
        stub = ImageServiceStub(channel)
        bulk = pb.StreamGenerateRequest(id="bulk", request=pb.GenerateRequest(model="vae", seed=1, count=1_000_000))
        may_end = threading.Event()

        def requests() -> Iterator[pb.StreamGenerateRequest]:
            yield bulk
            may_end.wait(60)
            yield pb.StreamGenerateRequest(id="after", request=pb.GenerateRequest(model="vae", seed=1, count=1))

        answers = stub.StreamGenerate(requests())
        assert next(answers).response.images.count > 0
        os.kill(several.engines.pid, signal.SIGKILL)
        last = next(answer for answer in answers if answer.last)
        assert (last.id, last.error.code) == ("bulk", grpc.StatusCode.UNAVAILABLE.value[0])
        assert "the engines' process has ended" in last.error.message
        # The stream may hear of the end before the supervisor does.
        while not several.engines.failures or several.problem():
            time.sleep(0.01)
        # The stream outlived the engines, and goes on with the new ones.
        may_end.set()
        (after,) = answers
        assert after.response.images.count == 1
        assert metric(several, "figment_engine_restarts_total", device="cpu") == 1
        assert becomes(several, 0, "figment_queue_images")


@pytest.mark.parametrize("engines", ["own", "shared"])
def test_a_crash_of_a_gateway_costs_only_its_own_connections(only_gan: Path, engines: str):
    with running_server(only_gan, gateways=2, engines=engines) as several, ExitStack() as stack:
        stubs = [ImageServiceStub(stack.enter_context(connect(several))) for _ in range(16)]
        ask = pb.StreamGenerateRequest(id="a", request=pb.GenerateRequest(model="gan", seed=1, count=2_000))
        streams = [stub.StreamGenerate(iter([ask])) for stub in stubs]
        for stream in streams:
            next(stream)
        os.kill(several.gateways[0].pid, signal.SIGKILL)
        for stream in streams:
            with suppress(grpc.RpcError):
                assert list(stream)[-1].last
        # The kernel deals connections out by a hash: 16 of them are all on one side once in 30,000 times.
        assert {stream.code() for stream in streams} == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
        for stub in stubs:
            assert stub.Generate(pb.GenerateRequest(model="gan", count=1), wait_for_ready=True).images.count == 1
        # Engines have crashed only if the gateway had some. The supervisor may count that after the others have answered.
        restarts = float(engines == "own")
        while metric(several, "figment_engine_restarts_total", device="cpu") < restarts:
            time.sleep(0.01)
        assert metric(several, "figment_engine_restarts_total", device="cpu") == restarts


def test_engines_are_the_gateways_own_on_a_cpu_unless_they_are_to_be_shared(only_gan: Path):
    with running_server(only_gan, gateways=2) as several:
        assert several.engines is None
        assert [gateway.device for gateway in several.gateways] == ["cpu", "cpu"]


@pytest.mark.parametrize("engines", ["own", "shared"])
def test_a_server_that_stops_finishes_what_it_admitted(only_vae: Path, engines: str):
    got: list[pb.StreamGenerateResponse] = []
    is_under_way = threading.Event()

    def read(stream: Iterator[pb.StreamGenerateResponse]) -> None:
        for answer in stream:
            got.append(answer)
            is_under_way.set()

    with running_server(only_vae, gateways=2, engines=engines) as several:
        channel = connect(several)
        ask = pb.StreamGenerateRequest(id="a", request=pb.GenerateRequest(model="vae", seed=1, count=5_000))
        stream = ImageServiceStub(channel).StreamGenerate(iter([ask]))
        reading = threading.Thread(target=read, args=(stream,))
        reading.start()
        is_under_way.wait(30)
    reading.join(30)
    channel.close()
    assert sum(answer.response.images.count for answer in got) == 5_000
    assert got[-1].last
