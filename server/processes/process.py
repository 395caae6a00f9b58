"""One process of a server, started again whenever it ends before it is told to.

    start() -> [spawn -> statuses ... -> end -> pause] ... -> stop()

Its life is one task of the event loop: whatever goes wrong in it is in the log, and the process is started again. A process
that has stopped, or hangs, says no more: it is killed, and started again as well.
"""

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import structlog
from pydantic import ValidationError

from server.models.load_plan import Version
from server.processes.status import ProcessStatus

STEADY_S = 5.0
"""A process that lived shorter is started again only after a pause, at most this long."""

SILENT_BEATS = 5
"""Beats of the supervisor, a second each, without a word of a process that serves, after which it counts as hanging."""

HUNG_BEATS = 10
"""The same until it is killed. A process says something each second; with twenty busy ones beside it, under load on two
cores, no word came a beat late. Beats are counted, not seconds: a machine that slept, or a supervisor that stood still, had
none."""

START_BEATS = 120
"""The same for a process that does not serve yet: while it loads a large graph it may say nothing for long."""

SLOW_START_BEATS = 30
"""Beats after which the log says again that a process is not ready."""

MAX_LINE_BYTES = 1 << 24

LAST_S = 5.0
"""Seconds that a process has to end once it has closed its standard output, which is its end otherwise."""

log = structlog.get_logger()


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


class Process:
    """One process, started again whenever it ends before it is told to.

    command     what to run
    files       descriptors that it inherits
    plan        called before each start, tells the first line of its standard input
    on_end      called when it has ended
    on_status     called when it has said something new
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: dict[str, str],
        files: Sequence[int],
        plan: Callable[["Process"], bytes],
        on_end: Callable[["Process"], None],
        on_status: Callable[[], None],
    ) -> None:
        self.name = name
        self.is_ready = False
        self.failures = 0
        """How often it has ended by itself, could not be started, or was killed because it hung."""
        self.versions: tuple[Version, ...] = ()
        """What it serves, or refuses, as it said last."""
        self.device: str | None = None
        """Where it has engines, if it has some."""
        self.has_started = False
        """Whether it has said, in its present life, that it serves or why it does not."""
        self._problem = "is starting"
        """Why it does not serve; what its last life ended with until the present one serves."""
        self._reason = ""
        """Why it ends, if that is known before it does."""
        self._command = command
        self._environment = environment
        self._files = files
        self._plan = plan
        self._on_end = on_end
        self._on_status = on_status
        self._silent_beats = 0
        self._beats = 0
        self._is_stopping = asyncio.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._is_over = asyncio.Event()
        self._is_gone = False
        self._life: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it, and keep it running."""
        self._life = asyncio.create_task(self._live())

    async def stop(self, timeout_s: float) -> None:
        """Tell it to stop, and kill it when it has not done so after `timeout_s`."""
        self._is_stopping.set()
        if self._stdin and not self._stdin.is_closing():
            self._stdin.close()
        if not self._life:
            return
        await asyncio.wait([self._life], timeout=timeout_s)
        if not self._life.done():
            log.warning("process killed", process=self.name, after_s=timeout_s)
            self._kill()
            await self._life

    def beat(self) -> None:
        """To be called once a second: a process that has said nothing for too many of these is killed."""
        process = self._process
        if not process:
            return
        if process.poll() is not None:
            # Its end is that of its pipe, unless somebody else holds that; what it said last has been heard a beat later.
            if self._is_gone:
                self._is_over.set()
            self._is_gone = True
            return
        self._silent_beats += 1
        self._beats += 1
        if self._silent_beats >= (HUNG_BEATS if self.has_started else START_BEATS):
            if not _is_traced(process.pid):
                self._reason = f"said nothing for {self._silent_beats} s and was killed"
                log.error("process hangs", process=self.name, pid=process.pid, silent_s=self._silent_beats)
                process.kill()
        elif not self.has_started and self._beats % SLOW_START_BEATS == 0:
            log.warning("process not ready yet", process=self.name, pid=process.pid, after_s=self._beats)

    @property
    def pid(self) -> int | None:
        """Number of the process that runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def problem(self) -> str:
        """Why it does not serve, with its name, or "" if it does."""
        if self.is_ready and self._silent_beats < SILENT_BEATS:
            return ""
        reason = f"has said nothing for {self._silent_beats} s" if self.is_ready else self._problem
        return f"{self.name}: {reason}"

    async def _live(self) -> None:
        """Run the process again and again."""
        pause_s = 0.1
        while not self._is_stopping.is_set():
            started_s = time.monotonic()
            try:
                await self._run()
            except OSError as error:
                self._fail(f"cannot be started: {error}")
            except Exception as error:
                log.exception("bug: a process was not watched any more", process=self.name)
                self._fail(f"cannot be watched: {error!r}")
            pause_s = 0.1 if time.monotonic() - started_s > STEADY_S else min(2 * pause_s, STEADY_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_stopping.wait(), pause_s)

    async def _run(self) -> None:
        """Start the process, read its output, and return when it has ended."""
        self._silent_beats = self._beats = 0
        self._reason = ""
        self._is_gone = False
        self._is_over = asyncio.Event()
        lines = _OutputLines(self._read_line, self._is_over)
        # Not by the event loop: uvloop forks as a whole, which a process that has used gRPC does not survive.
        process = subprocess.Popen(  # noqa: ASYNC220, S603  # some milliseconds; this package's own module
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
            pass_fds=self._files,
            start_new_session=True,
        )
        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            stack.callback(process.wait)
            stack.callback(process.kill)
            output, _ = await loop.connect_read_pipe(lambda: lines, process.stdout)
            stack.callback(output.close)
            self._stdin, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
            stack.callback(_drop, self._stdin)
            self._process = process
            stack.callback(self._forget)
            self._stdin.write(self._plan(self) + b"\n")
            if self._is_stopping.is_set():
                self._stdin.close()
            await self._is_over.wait()
            code = await asyncio.to_thread(_wait, process)
        self._fail(_ending(code))
        if not self._is_stopping.is_set():
            facts = {"process": self.name, "pid": process.pid, "exit_code": code}
            log.error("process ended", **facts, reason=self._problem)

    def _fail(self, problem: str) -> None:
        """It does not run any more, for the reason that is known, or `problem`."""
        if not self._is_stopping.is_set():
            self.failures += 1
            self._problem = self._reason or problem
        self.is_ready = self.has_started = False
        try:
            self._on_end(self)
        except Exception:
            log.exception("bug: an end was not dealt with", process=self.name)

    def _read_line(self, line: bytes) -> None:
        if not line:
            return
        try:
            status = ProcessStatus.model_validate_json(line)
        except ValidationError:
            log.warning("process said what is no word", process=self.name, line=line[:200].decode(errors="replace"))
            return
        self._silent_beats = 0
        if not status.model_fields_set:
            return
        try:
            self._apply(status)
        except Exception:
            log.exception("bug: a word was not understood", process=self.name)

    def _apply(self, status: ProcessStatus) -> None:
        self.versions = self.versions if status.versions is None else status.versions
        self.device = status.device or self.device
        if status.error is not None:
            self._reason = self._problem = status.error
            self.is_ready = False
        elif status.ready is not None:
            self.is_ready, self.has_started = status.ready, True
            self._problem = status.problem or "does not serve"
        self._on_status()

    def _forget(self) -> None:
        self._process = self._stdin = None

    def _kill(self) -> None:
        if self._process:
            self._process.kill()


def _drop(transport: asyncio.WriteTransport) -> None:
    if not transport.is_closing():
        transport.abort()


def _wait(process: "subprocess.Popen[bytes]") -> int:
    """The exit status of a process that is about to end."""
    try:
        return process.wait(LAST_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _ending(code: int) -> str:
    if code >= 0:
        return f"has ended with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}"


def _is_traced(pid: int) -> bool:
    """Whether a debugger holds a process; no where there is no /proc."""
    try:
        return "\nTracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
