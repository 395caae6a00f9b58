"""The page of metrics: whoever is slow, rude or many has no more of it than his time."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry

from server.addresses import split
from server.telemetry import metrics_http as metrics_page
from server.telemetry.metrics_http import MetricsPage

pytestmark = pytest.mark.slow


@pytest.fixture
def page() -> Iterator[tuple[str, int]]:
    """Host and port of a page."""
    served = MetricsPage(CollectorRegistry(), lambda: "")
    yield split(served.listen("127.0.0.1:0"))
    served.stop()


def ask(page: tuple[str, int], method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*page, timeout=10)
    connection.request(method, path, body)
    return connection.getresponse()


def sent(page: tuple[str, int], content: bytes) -> bytes:
    with socket.create_connection(page, timeout=10) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def threads() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("POST", "/healthz", 405),
        ("DELETE", "/metrics", 405),
        ("BREW", "/metrics", 405),
        ("GET", "/", 404),
        ("POST", "/", 404),
    ],
)
def test_every_method_has_an_answer(page: tuple[str, int], method: str, path: str, status: int):
    assert ask(page, method, path).status == status


def test_a_head_is_a_get_without_its_content(page: tuple[str, int]):
    head, get = ask(page, "HEAD", "/healthz"), ask(page, "GET", "/healthz")
    assert head.read() == b""
    assert get.read() == b"serving\n"
    assert head.headers["Content-Length"] == get.headers["Content-Length"] == "8"


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"x" * 70_000]
)
def test_garbage_is_answered_or_hung_up_on_and_says_nothing(
    page: tuple[str, int], garbage: bytes, capfd: pytest.CaptureFixture[str]
):
    try:
        reply = sent(page, garbage)
    except ConnectionError:
        reply = b""
    assert not reply or b"400" in reply or b"414" in reply or b"505" in reply
    assert ask(page, "GET", "/healthz").status == 200
    assert capfd.readouterr().err == ""


def test_half_a_request_is_hung_up_on(page: tuple[str, int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics_page._Handler, "timeout", 0.01)
    with socket.create_connection(page, timeout=10) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost:")
        assert connection.recv(1) == b""


def test_a_request_that_comes_byte_by_byte_has_a_time(page: tuple[str, int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics_page, "EXCHANGE_S", 0.0)
    with socket.create_connection(page, timeout=10) as connection:
        connection.sendall(b"GET ")
        assert connection.recv(1) == b""


def test_of_too_many_connections_the_oldest_go_and_the_page_answers(page: tuple[str, int]):
    with ExitStack() as stack:
        halves = [
            stack.enter_context(socket.create_connection(page, timeout=10)) for _ in range(4 * metrics_page.CONNECTIONS)
        ]
        for half in halves:
            half.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert ask(page, "GET", "/healthz").status == 200
        assert ask(page, "GET", "/metrics").status == 200
        # The newest may stay; each one before them was hung up on.
        assert [half.recv(1) for half in halves[: 3 * metrics_page.CONNECTIONS]] == [b""] * 3 * metrics_page.CONNECTIONS
        deadline = time.monotonic() + 10
        while threads() > metrics_page.CONNECTIONS and time.monotonic() < deadline:
            time.sleep(0.01)  # who was hung up on takes a moment to end
        assert threads() <= metrics_page.CONNECTIONS
