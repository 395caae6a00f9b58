"""A closed loop's load: h2load, one thread, for gRPC (HTTP/2) and plain HTTP/1.1 alike.

    Target -> H2load runs ... -> its log, a line a reply -> Replies: when each ended, how long it took

One generator for all servers, so its own cost of CPU is much the same beside each of them. The log tells when every
reply ended; who measures picks a window in the middle, where the load is steady, and reads the server's CPU at its ends.
"""

import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import psutil

OK = 200
SLACK_BYTES = 32
"""By how much equal requests' replies may differ: timings are left out of a message where they are zero."""


class LoadFailed(Exception):
    """The generator is missing or failed, or not every reply was a good one."""


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


class H2load:
    """One run of h2load in a `with` block, for `seconds` or, where given, `requests` requests."""

    def __init__(self, target: Target, seconds: float, requests: int | None = None) -> None:
        self._target = target
        self._seconds = seconds
        self._requests = requests
        self._folder = Path(tempfile.mkdtemp(prefix="figment-load-"))
        self._popen: subprocess.Popen[str] | None = None
        self.started_s = 0.0

    def __enter__(self) -> Self:
        program = shutil.which("h2load")
        if not program:
            raise LoadFailed("h2load is missing: it is in Debian's nghttp2-client")
        (self._folder / "body").write_bytes(self._target.body)
        much = ["-n", str(self._requests)] if self._requests else ["-D", f"{round(self._seconds * 1000)}ms"]
        command = [program, "-t", "1", *much, "-c", str(self._target.connections), "-m", str(self._target.streams)]
        if self._target.is_grpc:
            command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]  # codespell:ignore te
        else:
            command += ["--h1", "-H", "content-type: application/octet-stream"]
        command += ["-d", str(self._folder / "body"), f"--log-file={self._folder / 'log'}"]
        command.append(f"http://127.0.0.1:{self._target.port}{self._target.path}")
        self._popen = subprocess.Popen(  # noqa: S603 - the command is made above
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.started_s = time.time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._popen:
            self._popen.kill()
            self._popen.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)

    def cpu_s(self) -> float:
        """User and system seconds of the generator itself so far."""
        assert self._popen
        times = psutil.Process(self._popen.pid).cpu_times()
        return float(times.user + times.system)

    def replies(self) -> Replies:
        """Wait for the end and return what came. Raises: LoadFailed, if a reply was not good."""
        assert self._popen
        text, _ = self._popen.communicate(timeout=self._seconds + 60)
        if self._popen.returncode:
            raise LoadFailed(f"h2load ended with status {self._popen.returncode}: {text.strip()[-300:]}")
        columns = np.array((self._folder / "log").read_text().split(), np.int64).reshape(-1, 3)
        start_us, status, latency_us = columns.T
        if not len(columns) or (status != OK).any():
            kinds = ", ".join(map(str, np.unique(status))) or "none"
            raise LoadFailed(
                f"{self._target.path}: got {len(columns)} replies with HTTP status {kinds}, allowed is {OK}"
            )
        self._check_bytes(text, len(columns))
        latency_us = np.maximum(latency_us, 1)
        return Replies((start_us + latency_us) / 1e6, latency_us / 1e6)

    def _check_bytes(self, summary: str, replies: int) -> None:
        """HTTP status says nothing about gRPC's: a refused call is short of its images."""
        found = re.search(r"\((\d+)\) data", summary)
        got, least = int(found[1]) if found else 0, replies * (self._target.reply_bytes - SLACK_BYTES)
        if got < least:
            raise LoadFailed(f"{self._target.path}: {replies} replies had {got} bytes, at least {least} were to come")


def wait_until(moment_s: float) -> None:
    """Sleep until `moment_s` of time.time()."""
    time.sleep(max(0.0, moment_s - time.time()))
