"""The client's connection: proxies it does not use, and a network that falls silent."""

import select
import socket
import threading
from collections.abc import Iterator

import grpc
import pytest

from figment_client import Client, connection
from figment_client.connection import is_here
from server.addresses import split
from server.app import App
from server.rpc import transport

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY")


class Network:
    """A way to a server that can fall silent: what is sent from then on over the connections that there are is lost."""

    def __init__(self, address: str) -> None:
        self._target = split(address)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self._ways: dict[socket.socket, socket.socket] = {}
        self._lost: list[socket.socket] = []
        self._is_open = True
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def fall_silent(self) -> None:
        """Lose the connections that there are, without a word to either end."""
        self._lost += self._ways
        self._ways = {}

    def close(self) -> None:
        self._is_open = False
        self._thread.join()
        for end in (self._listener, *self._ways, *self._lost):
            end.close()

    def _carry(self) -> None:
        while self._is_open:
            ready, _, _ = select.select([self._listener, *self._ways], [], [], 0.05)
            for end in ready:
                if end is self._listener:
                    near, far = end.accept()[0], socket.create_connection(self._target)
                    self._ways |= {near: far, far: near}
                elif content := end.recv(65536) if end in self._ways else b"":
                    self._ways[end].sendall(content)


@pytest.fixture
def network(server: App) -> Iterator[Network]:
    way = Network(server.address)
    yield way
    way.close()


def test_a_connection_that_leads_nowhere_any_more_is_replaced(network: Network, monkeypatch: pytest.MonkeyPatch):
    names = ("grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms")
    times = dict.fromkeys(names, 200)
    assert times.keys() <= dict(connection.KEEPALIVE).keys()
    monkeypatch.setattr(connection, "KEEPALIVE", list({**dict(connection.KEEPALIVE), **times}.items()))
    with Client(network.address, timeout_s=30) as here:
        assert here.generate("gan", 1).shape[0] == 1
        network.fall_silent()
        assert here.generate("gan", 1).shape[0] == 1


def test_clients_may_ping_as_often_as_those_behind_load_balancers_do(server: App):
    pings = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.keepalive_time_ms", 2 * transport.PING_INTERVAL_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    states: list[grpc.ChannelConnectivity] = []
    left = threading.Event()

    def note(state: grpc.ChannelConnectivity) -> None:
        states.append(state)
        if states[0] is not state and grpc.ChannelConnectivity.READY in states[:-1]:
            left.set()

    with grpc.insecure_channel(server.address, pings) as channel:
        channel.subscribe(note, try_to_connect=True)
        assert not left.wait(1.5), states
    assert grpc.ChannelConnectivity.READY in states


@pytest.mark.parametrize("variable", PROXIES)
def test_no_proxy_is_asked_for_a_server_on_this_machine(server: App, variable: str, monkeypatch: pytest.MonkeyPatch):
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:1")  # where nobody listens
    with Client(server.address, timeout_s=10) as here:
        assert here.models()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:1",
        "127.9.9.9:1",
        "localhost:1",
        "[::1]:1",
        "dns:///localhost:1",
        "ipv4:127.0.0.1:1",
        "0.0.0.0:1",
        "[::]:1",
        "ipv6:[::1]:1",
    ],
)
def test_addresses_of_this_machine_are_known(address: str):
    assert is_here(address)


@pytest.mark.parametrize(
    "address", ["10.0.0.1:1", "server:50051", "localhost.example:1", "[2001:db8::1]:1", "dns:///127.example:1"]
)
def test_other_addresses_are_not_of_this_machine(address: str):
    assert not is_here(address)
