"""Traces: spans of requests and their stages, as a collector on loopback receives them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from pydantic import ValidationError

from figment.v1 import image_service_pb2 as pb
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from figment.v1.images_pb2 import IMAGE_FORMAT_PNG, IMAGE_FORMAT_RAW
from server.errors import CannotStart
from server.rpc.server import tracer_of
from server.settings import ServerSettings, TraceSettings
from tests.fakes.servers import running_server

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GENERATE = "figment.v1.ImageService/Generate"


class Collector(TraceServiceServicer):
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def Export(self, request: ExportTraceServiceRequest, context: object) -> ExportTraceServiceResponse:
        for resource in request.resource_spans:
            assert [each.value.string_value for each in resource.resource.attributes if each.key == "service.name"] == [
                "figment"
            ]
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return ExportTraceServiceResponse()

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def children(self, parent: Span) -> dict[str, Span]:
        return {span.name: span for span in self.spans if span.parent_span_id == parent.span_id}


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    """A collector and where it listens."""
    kept = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(kept, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield kept, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def facts(span: Span) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_a_request_and_its_stages_are_spans_under_the_callers(only_gan: Path, collector: tuple[Collector, str]):
    kept, endpoint = collector
    with running_server(only_gan, traces={"endpoint": endpoint}) as app, grpc.insecure_channel(app.address) as channel:
        metadata = [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("x-request-id", "mine")]
        request = pb.GenerateRequest(model="gan", count=3, format=IMAGE_FORMAT_PNG)
        ImageServiceStub(channel).Generate(request, metadata=metadata)
    (span,) = kept.named(GENERATE)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.kind == Span.SPAN_KIND_SERVER
    assert facts(span) == {
        "rpc.system": "grpc",
        "rpc.grpc.status_code": "OK",
        "figment.request_id": "mine",
        "figment.model": "gan",
        "figment.images": 3,
    }
    pipeline = kept.children(span)
    assert sorted(pipeline, key=lambda name: pipeline[name].start_time_unix_nano) == [
        "sample",
        "queue",
        "infer",
        "encode",
    ]
    for stage in pipeline.values():
        assert span.start_time_unix_nano <= stage.start_time_unix_nano
        assert stage.start_time_unix_nano <= stage.end_time_unix_nano <= span.end_time_unix_nano


def test_each_request_of_a_stream_is_a_span_under_the_streams(only_gan: Path, collector: tuple[Collector, str]):
    kept, endpoint = collector
    with running_server(only_gan, traces={"endpoint": endpoint}) as app, grpc.insecure_channel(app.address) as channel:
        asked = [
            pb.StreamGenerateRequest(
                id=str(count), request=pb.GenerateRequest(model="gan", count=count, format=format_)
            )
            for count, format_ in ((0, IMAGE_FORMAT_RAW), (2, IMAGE_FORMAT_RAW), (3, IMAGE_FORMAT_PNG))
        ]
        assert len(list(ImageServiceStub(channel).StreamGenerate(iter(asked)))) == 3
    (stream,) = kept.named("figment.v1.ImageService/StreamGenerate")
    requests = {facts(span)["figment.images"]: span for span in kept.named("StreamGenerate request")}
    assert {span.parent_span_id for span in requests.values()} == {stream.span_id}
    assert kept.children(requests[0]) == {}
    assert facts(requests[0])["rpc.grpc.status_code"] == "INVALID_ARGUMENT"
    for images in (2, 3):
        assert set(kept.children(requests[images])) == {"sample", "queue", "infer", "encode"}


def test_only_the_servers_own_failures_are_errors(only_vae: Path, collector: tuple[Collector, str]):
    kept, endpoint = collector
    with running_server(only_vae, traces={"endpoint": endpoint}) as app, grpc.insecure_channel(app.address) as channel:
        stub = ImageServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            stub.Generate(pb.GenerateRequest(model="nope", count=1))
        late = pb.StreamGenerateRequest(
            id="late", request=pb.GenerateRequest(model="vae", count=500_000), timeout_s=0.05
        )
        assert list(stub.StreamGenerate(iter([late])))[-1].error.code
    spans = [*kept.named(GENERATE), *kept.named("StreamGenerate request")]
    assert {facts(span)["rpc.grpc.status_code"]: span.status.code for span in spans} == {
        "NOT_FOUND": Status.STATUS_CODE_UNSET,
        "DEADLINE_EXCEEDED": Status.STATUS_CODE_ERROR,
    }


@pytest.mark.parametrize(("ratio", "flag", "spans"), [(1.0, "00", 0), (0.0, "01", 5), (0.0, "", 0)])
def test_the_caller_decides_and_else_the_ratio(
    only_gan: Path, collector: tuple[Collector, str], ratio: float, flag: str, spans: int
):
    kept, endpoint = collector
    traces = {"endpoint": endpoint, "ratio": ratio}
    with running_server(only_gan, traces=traces) as app, grpc.insecure_channel(app.address) as channel:
        metadata = [("traceparent", f"00-{TRACE}-{PARENT}-{flag}")] if flag else []
        ImageServiceStub(channel).Generate(pb.GenerateRequest(model="gan", count=1), metadata=metadata)
    assert len(kept.spans) == spans


def test_a_collector_that_is_away_costs_no_request(only_gan: Path):
    with (
        running_server(only_gan, traces={"endpoint": "http://127.0.0.1:1"}) as app,
        grpc.insecure_channel(app.address) as channel,
    ):
        assert ImageServiceStub(channel).Generate(pb.GenerateRequest(model="gan", count=1)).images.count == 1


def test_off_means_that_opentelemetry_is_not_even_imported(models: Path):
    assert tracer_of(TraceSettings()) is None
    code = "import sys, server.app; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "server.telemetry.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    with pytest.raises(CannotStart, match=r"traces\.endpoint: needs opentelemetry\S*, .*pip install 'figment\[otel\]'"):
        tracer_of(TraceSettings(endpoint="http://127.0.0.1:4317"))


def test_an_endpoint_is_a_url():
    with pytest.raises(ValidationError, match=r"traces\.endpoint"):
        ServerSettings(traces={"endpoint": "127.0.0.1:4317"})
