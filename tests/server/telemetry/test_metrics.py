"""Every metric after known calls, failed and cancelled ones too; the page that shows them."""

import math
import os
import platform
import urllib.request
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace

import grpc
import onnxruntime
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from export.bundle import read_manifest, write_manifest
from figment.v1 import image_service_pb2 as pb
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from server.app import App
from server.telemetry import gpus
from server.telemetry.metrics import LATENCY_BUCKETS, Metrics
from server.telemetry.metrics_http import MetricsPage
from tests.fakes.servers import running_server

SERVICE = "figment.v1.ImageService"


class Seen:
    """The metrics of one server: values by name and labels."""

    def __init__(self, app: App) -> None:
        self._registry = app.metrics.registry

    def __call__(self, name: str, **labels: str) -> float | None:
        return self._registry.get_sample_value(name, labels)

    def rpcs(self, method: str, code: str) -> float | None:
        return self("grpc_server_handled_total", grpc_service=SERVICE, grpc_method=method, grpc_code=code)

    def requests(self, model: str, method: str, code: str, size: str = "small") -> float | None:
        return self("figment_request_seconds_count", model=model, method=method, code=code, size=size)


def page(app: App) -> str:
    accept = {"Accept": "application/openmetrics-text"}
    with urllib.request.urlopen(
        urllib.request.Request(f"http://{app.metrics_address}/metrics", headers=accept)
    ) as reply:
        return reply.read().decode()


def ask(id_: str, count: int, **options: object) -> pb.StreamGenerateRequest:
    return pb.StreamGenerateRequest(id=id_, request=pb.GenerateRequest(model="vae", count=count), **options)


def test_metrics_have_the_values_of_the_calls_that_were_made(models: Path):
    with running_server(models, threads=1) as app, grpc.insecure_channel(app.address) as channel:
        stub, seen = ImageServiceStub(channel), Seen(app)
        for count in (1, 16, 17):
            stub.Generate(pb.GenerateRequest(model="gan", count=count))
        for model in ("nope", "also/nope"):
            with pytest.raises(grpc.RpcError):
                stub.Generate(pb.GenerateRequest(model=model, count=1))
        with pytest.raises(grpc.RpcError):
            stub.Encode(pb.EncodeRequest(model="gan"))
        assert len(list(stub.StreamGenerate(iter([ask("bad", 0), ask("good", 70)])))) == 3
        ends = {end: pb.Endpoint(seeded=pb.SeededImage(seed=seed)) for seed, end in enumerate(("start", "end"))}
        drawn = stub.Interpolate(pb.InterpolateRequest(model="vae", steps=4, **ends))
        encoded = stub.Encode(pb.EncodeRequest(model="vae", images=drawn.images))
        stub.Decode(pb.DecodeRequest(model="vae", latents=encoded.mean))
        stub.Reconstruct(pb.ReconstructRequest(model="vae", images=drawn.images))

        assert (seen.rpcs("Generate", "OK"), seen.rpcs("Generate", "NOT_FOUND")) == (3, 2)
        assert (seen.rpcs("StreamGenerate", "OK"), seen.rpcs("Encode", "FAILED_PRECONDITION")) == (1, 1)
        assert seen("grpc_server_handling_seconds_count", grpc_service=SERVICE, grpc_method="Generate") == 5
        assert (seen.requests("gan", "Generate", "OK"), seen.requests("gan", "Generate", "OK", "large")) == (2, 1)
        assert seen.requests("unknown", "Generate", "NOT_FOUND") == 2
        assert seen.requests("gan", "Encode", "FAILED_PRECONDITION") == 1
        assert seen.requests("vae", "StreamGenerate", "OK", "large") == 1
        assert seen.requests("vae", "StreamGenerate", "INVALID_ARGUMENT") == 1
        for method in ("Interpolate", "Encode", "Decode", "Reconstruct"):
            assert seen.requests("vae", method, "OK") == 1
        assert seen("figment_images_total", model="gan") == 34
        assert seen("figment_images_total", model="vae") == 70 + 4 + 4 + 4
        # Two ends and the way between them; encoded once alone and once on the way to its reconstruction.
        assert seen("figment_batch_images_sum", model="vae") == 70 + (1 + 1 + 4) + 4 + 4 + (4 + 4)
        for stage in ("sample", "queue", "encode"):
            assert seen("figment_stage_seconds_count", model="gan", stage=stage) == 3
        runs = seen("figment_batch_images_count", model="vae")
        # How many runs 70 images are depends on what the engine measured at its start.
        assert 7 + 2 <= runs == seen("figment_stage_seconds_count", model="vae", stage="infer")
        assert seen("figment_queue_images", model="gan") == seen("figment_queue_images", model="vae") == 0
        assert seen("figment_queue_limit_images") == 8192
        assert seen("figment_streams_open") == 0
        assert seen("figment_padding_images_total", model="vae") == 0
        busy_s = sum(seen("figment_stage_seconds_sum", model=model, stage="infer") for model in ("gan", "vae"))
        assert seen("figment_engine_busy_seconds_total", device="cpu") == pytest.approx(busy_s)
        assert seen("figment_engine_workers", device="cpu") == 1
        assert "also/nope" not in page(app)


def test_metrics_tell_what_is_served(server: App):
    seen = Seen(server)
    assert seen("figment_model_ready", model="vae", version="1") == 1
    assert seen("figment_model_loads_total", model="vae", outcome="ok") == 1
    facts = {"version": "1", "family": "vae", "provider": "CPUExecutionProvider", "variant": "fp32"}
    assert seen("figment_model_info", model="vae", **facts) == 1
    software = {"version": version("figment"), "python": platform.python_version()}
    assert seen("figment_build_info", onnxruntime=onnxruntime.__version__, **software) == 1


def test_the_quality_in_a_manifest_is_a_metric(models: Path, tmp_path: Path):
    bundle = copytree(models / "gan", tmp_path / "gan") / "1"
    manifest = read_manifest(bundle)
    manifest.quality["frechet_random"] = 0.25
    write_manifest(manifest, bundle)
    with running_server(tmp_path) as app:
        assert Seen(app)("figment_model_quality", model="gan", version="1", measure="frechet_random") == 0.25


def test_requests_that_are_given_up_are_counted_by_who_gave_up(only_vae: Path):
    with running_server(only_vae) as app, grpc.insecure_channel(app.address) as channel:
        stub, seen = ImageServiceStub(channel), Seen(app)
        (late,) = [reply for reply in stub.StreamGenerate(iter([ask("late", 500_000, timeout_s=0.05)])) if reply.last]
        assert late.error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert seen("figment_cancelled_total", model="vae", reason="deadline") == 1
        assert seen.requests("vae", "StreamGenerate", "DEADLINE_EXCEEDED", "large") == 1
        replies = stub.StreamGenerate(iter([ask("bulk", 500_000)]))
        next(replies)
        replies.cancel()
    # The server has stopped, so it knows.
    assert seen("figment_cancelled_total", model="vae", reason="client") == 1
    assert seen.requests("vae", "StreamGenerate", "CANCELLED", "large") == 1
    assert seen("figment_queue_images", model="vae") == 0


def test_a_latency_is_remembered_with_the_request_that_had_it(models: Path):
    with running_server(models) as app, grpc.insecure_channel(app.address) as channel:
        stub = ImageServiceStub(channel)
        stub.Generate(pb.GenerateRequest(model="gan", count=1), metadata=[("x-request-id", "who-was-slow")])
        list(stub.StreamGenerate(iter([ask("a", 1)]), metadata=[("x-request-id", "the-stream")]))
        families = {family.name: family for family in text_string_to_metric_families(page(app))}
    for name in ("grpc_server_handling_seconds", "figment_request_seconds"):
        known = {sample.exemplar.labels["request_id"] for sample in families[name].samples if sample.exemplar}
        assert known == {"who-was-slow", "the-stream"}


def test_buckets_hold_the_objective_and_can_be_read():
    family = Metrics().request_seconds.labels("gan", "Generate", "OK", "small")
    bounds = family._histogram._upper_bounds
    assert 0.25 in bounds
    assert bounds[0] == 0.0005
    assert all(1.49 < high / low < 1.51 for low, high in pairwise(LATENCY_BUCKETS))
    assert max(len(repr(bound)) for bound in bounds) <= 9


def test_the_page_adds_up_what_the_processes_use(server: App):
    alone, twice = CollectorRegistry(), CollectorRegistry()
    MetricsPage(alone, lambda: "")
    MetricsPage(twice, lambda: "", pids=lambda: [os.getpid()])
    start = "process_start_time_seconds"
    assert twice.get_sample_value(start) == alone.get_sample_value(start)
    for name in ("process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"):
        assert twice.get_sample_value(name) == pytest.approx(2 * alone.get_sample_value(name), rel=0.1)
        assert name in page(server)


def test_a_process_that_has_ended_meanwhile_is_left_out():
    registry = CollectorRegistry()
    MetricsPage(registry, lambda: "", pids=lambda: [2**22 + 1])
    assert registry.get_sample_value("process_resident_memory_bytes") > 2**20


class Nvml:
    """NVIDIA's library with two GPUs, of which the first does not tell its power."""

    class NVMLError(Exception):
        """What the library raises."""

    NVML_TEMPERATURE_GPU = 0

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return number

    def nvmlDeviceGetMemoryInfo(self, number: int) -> SimpleNamespace:
        return SimpleNamespace(used=10 + number, total=80)

    def nvmlDeviceGetUtilizationRates(self, number: int) -> SimpleNamespace:
        return SimpleNamespace(gpu=50 + number, memory=1)

    def nvmlDeviceGetPowerUsage(self, number: int) -> int:
        if number == 0:
            raise self.NVMLError
        return 300_000

    def nvmlDeviceGetTemperature(self, number: int, sensor: int) -> int:
        return 60


def test_gpus_are_on_the_page_in_base_units():
    registry = CollectorRegistry()
    MetricsPage(registry, lambda: "", gpus=lambda: gpus.read(Nvml()))
    seen = {
        name: registry.get_sample_value(f"figment_gpu_{name}", {"device": "cuda:1"}) for name in gpus.Gpu._fields[1:]
    }
    assert seen == {
        "utilization_ratio": 0.51,
        "memory_used_bytes": 11,
        "memory_total_bytes": 80,
        "power_watts": 300,
        "temperature_celsius": 60,
    }
    assert math.isnan(registry.get_sample_value("figment_gpu_power_watts", {"device": "cuda:0"}))
    assert registry.get_sample_value("figment_gpu_temperature_celsius", {"device": "cuda:0"}) == 60


def test_without_a_gpu_there_are_none():
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU here")
    assert gpus.gpu_reader()() == []
