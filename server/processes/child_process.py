"""One life of a child process: lines that it writes, input that it reads, and its end.

    ChildProcess.running() -> on_line(line) ... wait() -> exit status

Knows nothing of what the lines mean, or whether the process is started again.
"""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

MAX_LINE_BYTES = 1 << 24

LAST_S = 5.0
"""Seconds that a process has to end once it has closed its standard output, which is its end otherwise."""


class Launch(NamedTuple):
    """How a process is started: its command, its environment, and the descriptors that it inherits."""

    command: Sequence[str]
    environment: Mapping[str, str]
    files: Sequence[int]


class ChildProcess:
    """A process that runs; made by `running`."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", stdin: asyncio.WriteTransport, closed: asyncio.Event
    ) -> None:
        self._process = process
        self._stdin = stdin
        self._closed = closed
        self._has_ended = False

    @classmethod
    @asynccontextmanager
    async def running(cls, launch: Launch, on_line: Callable[[bytes], None]) -> "AsyncIterator[ChildProcess]":
        """Start a process in a session of its own; it is dead when the block ends.

        Raises: OSError.
        """
        # Not by the event loop: uvloop forks as a whole, which a process that has used gRPC does not survive.
        process = subprocess.Popen(  # noqa: ASYNC220, S603  # some milliseconds; this package's own module
            launch.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=launch.environment,
            pass_fds=launch.files,
            start_new_session=True,
        )
        loop, closed = asyncio.get_running_loop(), asyncio.Event()
        with ExitStack() as stack:
            stack.callback(process.wait)
            stack.callback(process.kill)
            output, _ = await loop.connect_read_pipe(lambda: _OutputLines(on_line, closed), process.stdout)
            stack.callback(output.close)
            stdin, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
            stack.callback(_drop, stdin)
            yield cls(process, stdin, closed)

    @property
    def pid(self) -> int | None:
        """Its number, while it runs."""
        return self._process.pid if self._process.returncode is None else None

    @property
    def is_traced(self) -> bool:
        """Whether a debugger holds it; no where there is no /proc."""
        try:
            return "\nTracerPid:\t0\n" not in Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return False

    def write(self, content: bytes) -> None:
        """Write to its standard input."""
        self._stdin.write(content)

    def close_input(self) -> None:
        """End its standard input."""
        if not self._stdin.is_closing():
            self._stdin.close()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def has_ended(self) -> bool:
        """Whether it has ended; to be asked once a second, by which `wait` returns although somebody else holds its pipe."""
        if self._process.poll() is None:
            return False
        if self._has_ended:  # what it wrote last was read since it was asked before
            self._closed.set()
        self._has_ended = True
        return True

    async def wait(self) -> int:
        """Its exit status, once it has ended or closed its standard output."""
        await self._closed.wait()
        return await asyncio.to_thread(self._end)

    def _end(self) -> int:
        try:
            return self._process.wait(LAST_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class _OutputLines(asyncio.Protocol):
    """Cuts what a process writes to its standard output into lines; `closed` is set when nothing more will come."""

    def __init__(self, on_line: Callable[[bytes], None], closed: asyncio.Event) -> None:
        self._closed = closed
        self._on_line = on_line
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._on_line(line)

    def connection_lost(self, error: Exception | None) -> None:
        self._closed.set()


def ending(status: int) -> str:
    """What an exit status says."""
    if status >= 0:
        return f"has ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was ended by {name}"


def _drop(transport: asyncio.WriteTransport) -> None:
    if not transport.is_closing():
        transport.abort()
