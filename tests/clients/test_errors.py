"""Errors: from the wire to the client's tree."""

import threading
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2

import figment_client
from figment.v1 import image_service_pb2
from figment_client import Client, DeadlineExceeded, Exhausted, FigmentError, InvalidArgument, NotFound, Unavailable
from tests.fakes.image_service import FakeServer, refusal


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    with Client(server.address, timeout_s=10) as client:
        yield client


def test_every_error_of_the_tree_has_its_own_code() -> None:
    kinds = [getattr(figment_client, name) for name in figment_client.__all__]
    codes = [kind.code for kind in kinds if isinstance(kind, type) and issubclass(kind, FigmentError)]
    assert len(set(codes)) == len(codes) == 12


def test_a_bad_request_names_the_field_and_the_request(server: FakeServer, client: Client) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="label", description="got 12, allowed 0 to 9")
    bad_request = error_details_pb2.BadRequest(field_violations=[violation])
    server.services.refusals = [refusal(grpc.StatusCode.INVALID_ARGUMENT, "label: got 12", bad_request)]
    with pytest.raises(InvalidArgument) as caught:
        client.decode("digits", [[0.0]])
    assert (caught.value.field, caught.value.message, caught.value.request_id) == ("label", "label: got 12", "r-1")
    assert str(caught.value) == "label: got 12 (request r-1)"


def test_a_full_server_tells_when_to_try_again(server: FakeServer, client: Client) -> None:
    delay = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=250_000_000))
    server.services.refusals = [refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full", delay)]
    with pytest.raises(Exhausted) as caught:
        client.models()
    assert caught.value.retry_after_s == 0.25


def test_an_error_without_details_is_mapped_by_its_code(server: FakeServer, client: Client) -> None:
    server.services.refusals = [lambda context: context.abort(grpc.StatusCode.NOT_FOUND, "no model 'x'")]
    with pytest.raises(NotFound, match="no model 'x'") as caught:
        client.model("x")
    assert caught.value.request_id == ""


def test_a_code_without_a_class_is_told_by_name(server: FakeServer, client: Client) -> None:
    server.services.refusals = [lambda context: context.abort(grpc.StatusCode.DATA_LOSS, "gone")]
    with pytest.raises(FigmentError, match="DATA_LOSS: gone"):
        client.models()


def test_details_of_another_error_are_not_believed(server: FakeServer, client: Client) -> None:
    def rewritten(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x03"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "no route")

    server.services.refusals = [rewritten]
    with pytest.raises(NotFound, match="no route"):
        client.models()


def test_an_error_on_a_stream_keeps_its_field_and_advice(server: FakeServer, client: Client) -> None:
    error = image_service_pb2.Error(code=3, message="too many", field="request.count")
    server.services.stream_answers = [image_service_pb2.StreamGenerateResponse(error=error, last=True)]
    with pytest.raises(InvalidArgument, match="too many") as bad:
        list(client.stream("digits", 2))
    assert bad.value.field == "request.count"
    error = image_service_pb2.Error(code=8, message="full", retry_after_s=0.5)
    server.services.stream_answers = [image_service_pb2.StreamGenerateResponse(error=error, last=True)]
    with pytest.raises(Exhausted, match="full") as full:
        list(client.stream("digits", 2))
    assert full.value.retry_after_s == 0.5


def test_a_stream_that_breaks_is_an_error_of_the_tree(server: FakeServer, client: Client) -> None:
    server.services.refusals = [refusal(grpc.StatusCode.NOT_FOUND, "no model 'x'")]
    with pytest.raises(NotFound) as caught:
        list(client.stream("x", 2))
    assert caught.value.request_id == "r-1"


def test_an_answer_that_takes_too_long_is_not_waited_for(server: FakeServer) -> None:
    gone = threading.Event()

    def stuck(context: grpc.ServicerContext) -> None:
        context.add_callback(gone.set)
        gone.wait(10)

    server.services.refusals = [stuck]
    with Client(server.address, timeout_s=0.2) as client, pytest.raises(DeadlineExceeded):
        client.models()
    assert gone.wait(5)


def test_an_unavailable_server_is_tried_again(server: FakeServer, client: Client) -> None:
    server.services.refusals = [refusal(grpc.StatusCode.UNAVAILABLE, "starting")] * 2
    assert len(client.models()) == 2
    assert len(server.services.requests) == 3


def test_trying_again_has_an_end(server: FakeServer, client: Client) -> None:
    server.services.refusals = [refusal(grpc.StatusCode.UNAVAILABLE, "draining")] * 9
    with pytest.raises(Unavailable, match="draining"):
        client.models()
    assert len(server.services.requests) == 4


def test_other_errors_are_not_tried_again(server: FakeServer, client: Client) -> None:
    server.services.refusals = [refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full")]
    with pytest.raises(Exhausted):
        client.models()
    assert len(server.services.requests) == 1


def test_a_refused_call_asks_for_the_limit_again(server: FakeServer, client: Client) -> None:
    client.generate("digits")
    server.services.refusals = [refusal(grpc.StatusCode.INVALID_ARGUMENT, "count: got 4, allowed is 1 to 2")]
    with pytest.raises(InvalidArgument):
        client.generate("digits", 4)
    server.services.requests.clear()
    client.generate("digits")
    assert len(server.services.requests) == 2
