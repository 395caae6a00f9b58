"""One process of a server, started again whenever it ends before it is told to.

    start() -> [spawn -> statuses ... -> end -> pause] ... -> stop()

Its life is one task of the event loop: whatever goes wrong in it is in the log, and the process is started again. A process
that has stopped, or hangs, says no more: it is killed, and started again as well.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from pydantic import ValidationError

from server.models.load_plan import Version
from server.processes.child_process import ChildProcess, Launch, ending
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

log = structlog.get_logger()


class Process:
    """One process, started again whenever it ends before it is told to.

    launch      how it is started
    plan        called before each start, tells the first line of its standard input
    on_end      called when it has ended
    on_status     called when it has said something new
    """

    def __init__(
        self,
        name: str,
        launch: Launch,
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
        self._launch = launch
        self._plan = plan
        self._on_end = on_end
        self._on_status = on_status
        self._silent_beats = 0
        self._beats = 0
        self._is_stopping = asyncio.Event()
        self._child: ChildProcess | None = None
        self._life: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it, and keep it running."""
        self._life = asyncio.create_task(self._live())

    async def stop(self, timeout_s: float) -> None:
        """Tell it to stop, and kill it when it has not done so after `timeout_s`."""
        self._is_stopping.set()
        if self._child:
            self._child.close_input()
        if not self._life:
            return
        await asyncio.wait([self._life], timeout=timeout_s)
        if not self._life.done():
            log.warning("process killed", process=self.name, after_s=timeout_s)
            if self._child:
                self._child.kill()
            await self._life

    def beat(self) -> None:
        """To be called once a second: a process that has said nothing for too many of these is killed."""
        child = self._child
        if not child or child.has_ended():
            return
        self._silent_beats += 1
        self._beats += 1
        if self._silent_beats >= (HUNG_BEATS if self.has_started else START_BEATS):
            if not child.is_traced:
                self._reason = f"said nothing for {self._silent_beats} s and was killed"
                log.error("process hangs", process=self.name, pid=child.pid, silent_s=self._silent_beats)
                child.kill()
        elif not self.has_started and self._beats % SLOW_START_BEATS == 0:
            log.warning("process not ready yet", process=self.name, pid=child.pid, after_s=self._beats)

    @property
    def pid(self) -> int | None:
        """Number of the process that runs."""
        return self._child.pid if self._child else None

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
        async with ChildProcess.running(self._launch, self._read_line) as child:
            self._child, pid = child, child.pid
            try:
                child.write(self._plan(self) + b"\n")
                if self._is_stopping.is_set():
                    child.close_input()
                status = await child.wait()
            finally:
                self._child = None
        self._fail(ending(status))
        if not self._is_stopping.is_set():
            log.error("process ended", process=self.name, pid=pid, exit_code=status, reason=self._problem)

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
