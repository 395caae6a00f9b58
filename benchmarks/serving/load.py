"""A closed loop's load: h2load, one thread, for gRPC (HTTP/2) and plain HTTP/1.1 alike.

    Target -> h2load() runs ... -> its log, a line a reply -> Replies: when each ended, how long it took

One generator for all servers, so its own cost of CPU is much the same beside each of them. The log tells when every
reply ended; who measures picks a window in the middle, where the load is steady, and reads the server's CPU at its ends.
"""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.shared.endpoints import STREAM_PATH, framed, stream_request
from benchmarks.shared.processes import Failed
from benchmarks.shared.servers import Server

FLIGHT = 32
"""Requests in flight in every closed loop."""

GRPC_CONNECTIONS = 4
"""To every gRPC server. Processes that share a port get connections, not calls, by chance: with several gateways take
more."""

OK = 200
SLACK_BYTES = 32
"""By how much equal requests' replies may differ: timings are left out of a message where they are zero."""


@dataclass(frozen=True)
class Target:
    """Where the load goes and what it is.

    body         request body, gRPC's frame included
    connections  TCP connections
    streams      requests in flight on each of them
    reply_bytes  bytes of one good reply's body; 0 = not checked
    """

    port: int
    path: str
    is_grpc: bool
    body: bytes
    connections: int
    streams: int
    reply_bytes: int = 0


def unary(server: Server, images: int, flight: int = FLIGHT, connections: int = GRPC_CONNECTIONS) -> Target:
    """Requests for `images` images, `flight` at a time, on `connections` if it is gRPC; asked in the server's turn."""
    endpoint, body, size = server.endpoint, server.endpoint.request(images), server.check(images)
    if not endpoint.is_grpc:
        return Target(server.port, endpoint.path, False, body, flight, 1, size)
    connections = min(connections, flight)
    return Target(server.port, endpoint.path, True, framed(body), connections, flight // connections, size + 5)


def streaming(server: Server, images: int, requests: int, connections: int) -> Target:
    """A StreamGenerate call a connection, of that many requests for `images` images; where it ends the next is opened."""
    body = b"".join(framed(stream_request(server.graph.name, images, number)) for number in range(requests))
    return Target(server.port, STREAM_PATH, True, body, connections, 1)


@dataclass(frozen=True)
class Replies:
    """Every reply: end_s (N,) seconds since the epoch, latency_s (N,)."""

    end_s: npt.NDArray[np.float64]
    latency_s: npt.NDArray[np.float64]

    def within(self, start_s: float, stop_s: float) -> "Replies":
        """Those that ended between two moments."""
        inside = (self.end_s >= start_s) & (self.end_s < stop_s)
        return Replies(self.end_s[inside], self.latency_s[inside])

    def share_within(self, start_s: float, stop_s: float) -> float:
        """How many requests' worth of answering lies between two moments.

        A request counts by the part of its time from sending to reply that lies between them. Replies of a batch come
        together, hundreds of images at once; counted whole they would make a short window come out by chance.
        """
        inside_s = np.minimum(self.end_s, stop_s) - np.maximum(self.end_s - self.latency_s, start_s)
        return float((np.maximum(inside_s, 0) / self.latency_s).sum())

    def percentile_s(self, percent: float) -> float:
        """Seconds within which `percent` of them were answered, NaN where there are none."""
        return float(np.percentile(self.latency_s, percent)) if len(self.latency_s) else float("nan")


@contextmanager
def h2load(target: Target, seconds: float, requests: int | None = None) -> "Iterator[Load]":
    """One run of h2load, for `seconds` or, where given, `requests` requests; ended with the block. Raises: Failed."""
    program = shutil.which("h2load")
    if not program:
        raise Failed("h2load is missing: it is in Debian's nghttp2-client")
    with tempfile.TemporaryDirectory(prefix="figment-load-") as name:
        body, log = Path(name) / "body", Path(name) / "log"
        body.write_bytes(target.body)
        much = ["-n", str(requests)] if requests else ["-D", f"{round(seconds * 1000)}ms"]
        command = [program, "-t", "1", *much, "-c", str(target.connections), "-m", str(target.streams)]
        if target.is_grpc:
            command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]  # codespell:ignore te
        else:
            command += ["--h1", "-H", "content-type: application/octet-stream"]
        command += ["-d", str(body), f"--log-file={log}", f"http://127.0.0.1:{target.port}{target.path}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as popen:  # noqa: S603
            try:
                yield Load(target, popen, log, seconds + 60)
            finally:
                popen.kill()


class Load:
    """A run of h2load that goes on."""

    def __init__(self, target: Target, popen: subprocess.Popen[str], log: Path, timeout_s: float) -> None:
        self.started_s = time.time()
        self._target = target
        self._popen = popen
        self._log = log
        self._timeout_s = timeout_s

    def cpu_s(self) -> float:
        """User and system seconds of the generator itself so far."""
        return float(sum(psutil.Process(self._popen.pid).cpu_times()[:2]))

    def replies(self) -> Replies:
        """Wait for the end and return what came. Raises: Failed, if a reply was not good."""
        text, _ = self._popen.communicate(timeout=self._timeout_s)
        if self._popen.returncode:
            raise Failed(f"h2load ended with status {self._popen.returncode}: {text.strip()[-300:]}")
        return replies(self._log.read_text(), text, self._target)


def replies(log: str, summary: str, target: Target) -> Replies:
    """What h2load wrote: a line of start, status and microseconds a reply. Raises: Failed, if one was not good."""
    columns = np.array(log.split(), np.int64).reshape(-1, 3)
    start_us, status, latency_us = columns.T
    if not len(columns) or (status != OK).any():
        kinds = ", ".join(map(str, np.unique(status))) or "none"
        raise Failed(f"{target.path}: got {len(columns)} replies with HTTP status {kinds}, allowed is {OK}")
    # HTTP status says nothing about gRPC's: a refused call is short of its images.
    found = re.search(r"\((\d+)\) data", summary)
    got, least = int(found[1]) if found else 0, len(columns) * (target.reply_bytes - SLACK_BYTES)
    if got < least:
        raise Failed(f"{target.path}: {len(columns)} replies had {got} bytes, at least {least} were to come")
    latency_us = np.maximum(latency_us, 1)
    return Replies((start_us + latency_us) / 1e6, latency_us / 1e6)


def wait_until(moment_s: float) -> None:
    """Sleep until `moment_s` of time.time()."""
    time.sleep(max(0.0, moment_s - time.time()))
