"""What signals do to `figment serve`, and what it says on standard error meanwhile: one JSON object a line."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from figment.v1 import image_service_pb2 as pb
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from server.addresses import split

COMMAND = "import sys; from figment.cli.command import main; sys.exit(main(sys.argv[1:]))"


@contextmanager
def served(models: Path, log: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", str, str]]:
    """A process that serves, its gRPC address and that of its page; its standard error goes to `log`."""
    addresses = ["--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"]
    command = [sys.executable, "-c", COMMAND, "serve", "--models", str(models), *addresses, *options]
    with log.open("w") as file, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True) as process:
        try:
            welcome = process.stdout.readline()
            yield process, welcome.split(" on ")[1].split(",")[0], welcome.split("http://")[1].split("/")[0]
        finally:
            process.kill()


def events(log: Path) -> list[dict[str, object]]:
    """The lines, each of which is JSON."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def wait_for(log: Path, event: str) -> dict[str, object]:
    """The first line of an event, once it is there."""
    with log.open() as file:
        while True:
            if (line := file.readline()) and event in line:
                return json.loads(line)


@pytest.mark.parametrize("gateways", [1, 2])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_says_what_is_waited_for_and_the_third_ends_it_at_once(
    only_gan: Path, tmp_path: Path, number: signal.Signals, status: int, gateways: int
):
    log = tmp_path / "log"
    with (
        served(only_gan, log, "--gateways", str(gateways), "--drain-s", "600") as (process, address, _),
        grpc.insecure_channel(address) as channel,
    ):
        bulk = pb.StreamGenerateRequest(id="bulk", request=pb.GenerateRequest(model="gan", count=1_000_000))
        pieces = ImageServiceStub(channel).StreamGenerate(iter([bulk]))
        next(pieces)  # and nobody reads the rest
        children = [
            pid
            for task in Path(f"/proc/{process.pid}/task").iterdir()
            for pid in (task / "children").read_text().split()
        ]
        process.send_signal(number)
        wait_for(log, "draining")
        process.send_signal(number)
        told = wait_for(log, "one more signal ends it at once")
        process.send_signal(number)
        assert process.wait(30) == status
    assert told["calls"] == 1 if gateways == 1 else set(told["processes"]) & {"gateway-0", "gateway-1"}
    last = events(log)[-1]
    assert (last["event"], last["signal"]) == ("ended at once", number.name)
    assert len(children) == (0 if gateways == 1 else 2)
    for pid in children:
        with suppress(FileNotFoundError):
            assert "State:\tZ" in Path(f"/proc/{pid}/status").read_text(), (
                "ended, if nobody has asked for its status yet"
            )


def test_whatever_comes_to_its_ports_each_line_of_the_log_is_json(only_gan: Path, tmp_path: Path):
    log = tmp_path / "log"
    garbage = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes.fromhex("16030100c8010000c40303") + bytes(200),  # a TLS hello
        os.urandom(3000),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(300),
        b"PRI * HT",
        b"",
    ]
    with served(only_gan, log) as (process, *addresses):
        for address in addresses:
            for content in garbage:
                with socket.create_connection(split(address), timeout=10) as connection, suppress(ConnectionError):
                    connection.sendall(content)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
        with grpc.insecure_channel(addresses[0]) as channel:
            generate = channel.unary_unary("/figment.v1.ImageService/Generate")
            with pytest.raises(grpc.RpcError, match="no message of this method"):
                generate(b"\xff\xff\xff")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert events(log)[-1]["event"] == "stopped"
