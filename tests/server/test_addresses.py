"""Addresses to listen on: what is one, and why one cannot be had."""

import asyncio
import errno
import socket
import urllib.request
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import ValidationError

from server.addresses import joined, reachable, split, unavailable
from server.app import serving
from server.command import _welcome
from server.errors import AddressTaken
from server.settings import ServerSettings
from tests.fakes.servers import running_server

SETTINGS = ["address", "metrics_address"]


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::]:9464", ("::", 9464)),
        ("[0:0::1]:65535", ("::1", 65535)),
        ("a-host.example:1", ("a-host.example", 1)),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, parts: tuple[str, int]):
    assert split(address) == parts
    assert split(joined(*parts)) == parts


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("127.0.0.1:65536", "got port 65536, allowed are 0, any free one, to 65535"),
        ("127.0.0.1:99999999999999999999999999", "allowed are 0, any free one, to 65535"),
        ("::1:9464", "an IPv6 address stands in brackets"),
        ("[::1]", "allowed is host:port"),
        ("[nonsense]:1", "whose brackets hold no IPv6 address"),
        ("127.0.0.1", "allowed is host:port"),
        ("127.0.0.1:-1", "allowed is host:port"),
        ("127.0.0.1:²", "allowed is host:port"),
        (":9464", "allowed is host:port"),
        ("http://127.0.0.1:1", "allowed is host:port, such as 127.0.0.1:50051, [::1]:50051"),
        ("a b:1", "allowed is host:port"),
    ],
)
def test_what_is_no_address_is_refused_at_birth(setting: str, address: str, problem: str):
    with pytest.raises(ValidationError) as refused:
        ServerSettings.model_validate({setting: address})
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EADDRINUSE, "port 80 is in use; is a server running there?"),
        (errno.EACCES, "this user may not listen on port 80; ports from 1024 on are everybody's"),
        (errno.EADDRNOTAVAIL, "no interface of this machine has the address 192.0.2.1"),
        (errno.ENOBUFS, "No buffer space available"),
    ],
)
def test_the_reason_is_what_the_system_says(number: int, reason: str):
    error = unavailable("address", "192.0.2.1:80", OSError(number, "No buffer space available"))
    assert str(error).startswith("address: cannot listen on 192.0.2.1:80: ")
    assert reason in str(error)


@pytest.mark.parametrize("gateways", [1, 2])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("192.0.2.1:0", "no interface of this machine has the address"),  # kept for documents, nobody's
        ("no-such-host.invalid:0", "the host 'no-such-host.invalid' is unknown"),
    ],
)
def test_an_address_that_cannot_be_had_is_told_with_its_reason(
    setting: str, address: str, reason: str, gateways: int, tmp_path: Path
):
    free = {"address": "127.0.0.1:0", "metrics_address": "127.0.0.1:0", "models": tmp_path, "gateways": gateways}

    async def start() -> None:
        async with serving(ServerSettings.model_validate({**free, setting: address})):
            pass

    with pytest.raises(AddressTaken, match=f"^{setting}: cannot listen on {address}: {reason}"):
        asyncio.run(start())


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6 here")
@pytest.mark.parametrize("host", ["[::1]", "[::]"])
def test_both_listen_on_ipv6(only_gan: Path, host: str):
    with running_server(only_gan, address=f"{host}:0", metrics_address=f"{host}:0") as app:
        assert app.address.startswith(f"{host}:")
        with urllib.request.urlopen(f"http://{reachable(app.metrics_address)}/healthz") as page:
            assert page.status == 200
        with grpc.insecure_channel(reachable(app.address)) as channel:
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        assert f"--address [::1]:{split(app.address)[1]}" in _welcome(app)
        assert f"http://[::1]:{split(app.metrics_address)[1]}/metrics" in _welcome(app)
