"""What is said when no Figment server answers: every cause has words of its own, that name whom and what was asked."""

import socket
import threading
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import pytest

from figment.v1 import image_service_pb2
from figment_client import (
    Cancelled,
    Client,
    DeadlineExceeded,
    FigmentError,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
)
from figment_client.reasons import Asked, in_words
from tests.fakes.image_service import FakeServer

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a port where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def free() -> str:
    """The address of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


def failure(client: Client) -> FigmentError:
    """What a call ends with that every server can answer."""
    with client, pytest.raises(FigmentError) as caught:
        client.models()
    return caught.value


def test_where_nobody_listens_the_words_say_how_to_start_a_server(free: str) -> None:
    error = failure(Client(free))
    assert type(error) is Unavailable
    assert str(error).startswith(f"nothing listens at {free}: start a server with `figment serve --models models`")
    with Client(free) as client, pytest.raises(Unavailable, match=f"nothing listens at {free}"):
        next(client.stream("digits", 2))


def test_a_name_that_nobody_knows_is_told() -> None:
    error = failure(Client("no-such-host.invalid:50051"))
    assert type(error) is Unavailable
    assert str(error).startswith("no address is known for no-such-host.invalid:50051: is the name right?")


def test_a_deadline_tells_connecting_from_answering(server: FakeServer, silent: str) -> None:
    error = failure(Client(silent, timeout_s=0.2))
    assert type(error) is DeadlineExceeded
    assert str(error).startswith(f"no connection to {silent} within 0.2 s, for ListModels: nothing answers there")

    gone = threading.Event()

    def stuck(context: grpc.ServicerContext) -> None:
        context.add_callback(gone.set)
        gone.wait(10)

    with Client(server.address) as client:
        client.models()
        client.timeout_s = 0.2
        server.services.refusals = [stuck]
        with pytest.raises(DeadlineExceeded) as caught:
            client.generate("digits", 1)
    assert str(caught.value) == f"no answer from {server.address} within 0.2 s to GetModel of digits"


def test_a_stream_that_takes_too_long_tells_how_many_images_came(server: FakeServer) -> None:
    server.services.endless = True
    with Client(server.address) as client, pytest.raises(DeadlineExceeded) as caught:
        list(client.stream("digits", 64, timeout_s=2))
    told = f"no answer from {server.address} within 2 s to Generate of 64 images of digits, of which 3 came"
    assert str(caught.value) == told


def test_a_server_of_another_kind_is_told_as_one() -> None:
    class Page(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        error = failure(Client(f"127.0.0.1:{http.server_port}"))
        http.shutdown()
        thread.join()
    assert type(error) is Unavailable
    assert str(error).startswith(f"what listens at 127.0.0.1:{http.server_port} is no gRPC server")


def test_a_port_that_hangs_up_is_told_as_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"

        def hang_up() -> None:
            while True:
                try:
                    listening.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=hang_up)
        thread.start()
        error = failure(Client(address))
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert str(error).startswith(f"{address} closed the connection at once: it wants TLS, or is no gRPC server")


def test_a_server_without_tls_is_told(server: FakeServer) -> None:
    error = failure(Client(server.address, credentials=grpc.ssl_channel_credentials()))
    assert type(error) is Unavailable
    assert str(error).startswith(f"the server at {server.address} speaks no TLS")


def test_a_server_that_lacks_the_method_is_told_as_another_version() -> None:
    other = grpc.server(futures.ThreadPoolExecutor(1))
    address = f"127.0.0.1:{other.add_insecure_port('127.0.0.1:0')}"
    other.start()
    error = failure(Client(address))
    other.stop(0).wait()
    assert type(error) is Unimplemented
    assert str(error) == f"{address} does not know ListModels: another version of Figment, or another server"


def test_an_upload_over_the_limit_is_a_wrong_request_and_no_full_server(server: FakeServer) -> None:
    with Client(server.address) as client, pytest.raises(InvalidArgument) as caught:
        client.encode("digits", np.zeros((5, 1024, 1024, 1), np.uint8))
    told = str(caught.value)
    assert told.startswith("Encode of 5 images of digits: got a message of 5,242,9")
    assert "bytes, allowed are 4,194,304; send fewer images at a time" in told


def test_a_connection_that_breaks_is_told_with_what_was_under_way(server: FakeServer) -> None:
    server.services.endless = True
    with Client(server.address) as client:
        pieces = client.stream("digits", 64)
        next(pieces)
        server._server.stop(0)
        with pytest.raises(FigmentError) as caught:
            next(pieces)
    assert type(caught.value) in (Unavailable, Cancelled)
    assert "Generate of 64 images of digits, of which 3 came" in str(caught.value)


def test_a_client_that_was_closed_says_so(server: FakeServer) -> None:
    client = Client(server.address)
    client.close()
    for call in (client.models, lambda: client.generate("m"), lambda: list(client.stream("m", 2))):
        with pytest.raises(Cancelled, match="given up: Cannot invoke RPC"):
            call()


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "http://127.0.0.1:50051", "127.0.0.1:99999", "127.0.0.1:0", "::1:50051", "not an address", ":50051"],
)
def test_what_is_no_address_is_refused_at_once(address: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Client(address)
    assert caught.value.field == "address"
    assert str(caught.value).startswith(f"address: got '{address}', allowed is host:port, such as 127.0.0.1:50051")


@pytest.mark.parametrize("address", ["[::1]:50051", "dns:///figment:50051", "unix:/run/figment.sock", "figment-1:80"])
def test_all_kinds_of_addresses_are_taken(address: str) -> None:
    with Client(address) as client:
        assert client.address == address


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(timeout_s: float) -> None:
    with pytest.raises(InvalidArgument, match=r"timeout_s: got .*, allowed is a number of seconds above 0"):
        Client(timeout_s=timeout_s)
    with Client() as client, pytest.raises(InvalidArgument, match="timeout_s"):
        client.stream("digits", 2, timeout_s=timeout_s)


CONNECTING = "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:50051: "
HOST = "figment.example:50051"
CODE = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "details", "meant", "told"),
    [
        (CODE.UNAVAILABLE, "DNS resolution failed for figment.example:50051: C-ares status is not ARES_SUCCESS",
         Unavailable, f"no address is known for {HOST}"),
        (CODE.UNAVAILABLE, CONNECTING + "connection attempt timed out before receiving SETTINGS frame",
         Unavailable, f"no connection to {HOST}: nothing answers there as a gRPC server does"),
        (CODE.UNAVAILABLE, CONNECTING + "Tls handshake failed (TSI_PROTOCOL_FAILURE): CERTIFICATE_VERIFY_FAILED",
         Unavailable, f"the certificate of {HOST} is not accepted"),
        (CODE.UNAVAILABLE, CONNECTING + "Hostname Verification Check failed.",
         Unavailable, f"the certificate of {HOST} is not accepted"),
        (CODE.UNAVAILABLE, CONNECTING + "No route to host",
         Unavailable, f"no connection to {HOST}: No route to host"),
        (CODE.UNAVAILABLE, "Received http2 header with status: 502",
         Unavailable, f"what listens at {HOST} is no gRPC server, but speaks HTTP"),
        (CODE.UNAVAILABLE, "keepalive watchdog timeout",
         Unavailable, f"the connection to {HOST} was lost during Decode of 2 latents of m; try again"),
        (CODE.RESOURCE_EXHAUSTED, "Stream removed (CLIENT: Received message larger than max (117 vs. 10))",
         InvalidArgument, "Decode of 2 latents of m: got a reply of 117 bytes, allowed are 10; ask for fewer"),
        (CODE.INTERNAL, "Exception serializing request!", InvalidArgument, "got more than a message can hold, 2 GiB"),
        (CODE.NOT_FOUND, "no route", NotFound, "no route"),
    ],
)  # fmt: skip
def test_what_grpc_says_is_put_in_words(
    code: grpc.StatusCode, details: str, meant: type[FigmentError], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(variable, raising=False)
    found, words = in_words(code, details, Asked("Decode of 2 latents of m", HOST, 60), lambda: True)
    assert found is meant.code
    assert told in words


def test_a_proxy_on_the_way_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    details = CONNECTING + "HTTP proxy returned response code 403"
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv("http_proxy", "http://me:secret@10.9.9.9:3128")

    def told(address: str) -> str:
        return in_words(CODE.UNAVAILABLE, details, Asked("ListModels", address, 60), lambda: False)[1]

    assert told(HOST) == (
        f"no connection to {HOST}: HTTP proxy returned response code 403; connections go through the proxy "
        "10.9.9.9:3128 of http_proxy, no_proxy=figment.example leaves it out"
    )
    for address in ("127.0.0.1:50051", "0.0.0.0:50051", "[::1]:50051", "ipv4:127.0.0.1:50051"):
        assert "proxy 10" not in told(address)
    monkeypatch.setenv("no_proxy", "localhost,figment.example")
    assert "proxy 10" not in told(HOST)


def test_a_request_is_described_by_what_it_asks_for() -> None:
    from figment_client.reasons import described
    from figment_client.requests import generate_request, interpolate_request

    assert described(generate_request("m", "", 3, None, 0, None, 1.0)) == "Generate of 3 images of m"
    assert described(interpolate_request("m", "", 1, 2, 5, "lerp", None)) == "Interpolate of 5 images of m"
    assert described(image_service_pb2.ReconstructRequest(model="m")) == "Reconstruct of 0 images of m"
