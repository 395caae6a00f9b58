"""A server as a subprocess: started in a session of its own, watched from outside, stopped surely.

    start -> wait_until(ready) -> cpu_s(), rss_bytes() of the whole tree, pause(), resume() -> stop

Knows psutil, not what the process serves.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

STOP_S = 15.0
"""Seconds between asking a process to end and killing it."""

POLL_S = 0.01


class CommandFailed(Exception):
    """A command that should give an answer did not; says its last words."""


class StartFailed(Exception):
    """A process ended or stayed silent where it should have become ready; says the end of its log."""


def run(command: Sequence[str], text: str = "", timeout_s: float | None = None) -> str:
    """Run a command to its end with `text` on its stdin; returns its stdout. Raises: CommandFailed."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(  # noqa: S603 - the commands are this package's own
            command, input=text, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{name} did not end within {timeout_s:g} s") from None
    except OSError as error:
        raise CommandFailed(f"{name}: {error}") from None
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise CommandFailed(f"{name} ended with status {done.returncode}: {' / '.join(words)[-400:]}")
    return done.stdout


def machine_busy_s() -> float:
    """CPU seconds of the whole machine since it started, what the hypervisor gave to others included."""
    times = psutil.cpu_times()
    busy = times.user + times.nice + times.system
    return float(busy + sum(getattr(times, kind, 0.0) for kind in ("irq", "softirq", "steal")))


class Process:
    """One command and everything that it starts; ends with the `with` block."""

    def __init__(self, command: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self._command = list(command)
        self._log = log
        self._environment = {**os.environ, **(environment or {})}
        self._popen: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(  # noqa: S603 - the commands are this package's own
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float) -> float:
        """Wait until `is_ready` says so; returns the seconds that it took. Raises: StartFailed."""
        assert self._popen
        started_s = time.monotonic()
        while not is_ready():
            if self._popen.poll() is not None:
                raise StartFailed(
                    f"{self._command[0]} ended with status {self._popen.returncode}: {self._last_words()}"
                )
            if time.monotonic() - started_s > timeout_s:
                raise StartFailed(f"{self._command[0]} was not ready after {timeout_s:g} s: {self._last_words()}")
            time.sleep(POLL_S)
        return time.monotonic() - started_s

    def is_running(self) -> bool:
        """Whether the command itself has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def cpu_s(self) -> float:
        """User and system seconds of the tree so far, children that have ended included."""
        total = 0.0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def rss_bytes(self) -> int:
        """Resident memory of the tree, pages that processes share counted for each."""
        total = 0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def pause(self) -> None:
        """Take the whole tree off the CPU, so that an idle server's polling costs others nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run again."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ask the tree to end, then kill what is left of it. Does nothing the second time."""
        if self._popen is None:
            return
        self.resume()
        tree = self._tree()
        with suppress(ProcessLookupError):
            self._popen.send_signal(signal.SIGINT)  # as Ctrl-C; on SIGTERM Triton and LitServe leave files behind
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_S)
        for process in tree:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._popen = None

    def _tree(self) -> list[psutil.Process]:
        assert self._popen
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._popen.pid)
            return [root, *root.children(recursive=True)]
        return []

    def _signal(self, number: signal.Signals) -> None:
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return " / ".join(line.strip() for line in lines[-4:] if line.strip())[-600:] or "it wrote nothing"
