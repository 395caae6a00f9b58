"""Processes: commands run to their end, functions in subprocesses, and what stays up, watched and surely stopped.

    run(command) -> stdout        in_subprocess(function, ...) -> its result
    spawn(command) -> wait_until(ready) | ask(order) -> cpu_s(), rss_bytes() of the tree, pause(), resume() -> stopped

Knows psutil, not what a process is for.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import psutil

P = ParamSpec("P")
T = TypeVar("T")

ROOT = Path(__file__).parents[2]
"""Where processes start, so that they find this package in any environment."""

STOP_S = 15.0
"""Seconds between asking a process to end and killing it."""

POLL_S = 0.01


class Failed(Exception):
    """What is measured, or what measures it, did not do as it should; says its last words."""


def run(command: Sequence[str], timeout_s: float | None = None) -> str:
    """Run a command to its end; returns its stdout. Raises: Failed."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise Failed(f"{name} did not end within {timeout_s:g} s") from None
    except OSError as error:
        raise Failed(f"{name}: {error}") from None
    if done.returncode:
        raise Failed(f"{name} ended with status {done.returncode}: {_last_words(done.stderr or done.stdout)}")
    return done.stdout


def in_subprocess(function: Callable[P, T], timeout_s: float | None, *arguments: P.args, **named: P.kwargs) -> T:
    """What a module's function returns in a fresh process, which it may bring down or slow. Raises: Failed."""
    context = get_context("spawn")
    answers, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, *arguments), kwargs=named)
    process.start()
    theirs.close()
    try:
        if not answers.poll(timeout_s):
            raise Failed(f"{function.__qualname__} did not end within {timeout_s:g} s")
        is_good, answer = answers.recv()
    except EOFError:
        process.join()
        raise Failed(f"{function.__qualname__} ended with status {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        answers.close()
    if not is_good:
        raise Failed(answer)
    result: T = answer
    return result


def _answer(answers: Connection, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> None:
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no part of the tables
    try:
        answers.send((True, function(*arguments, **named)))
    except Exception as error:
        answers.send((False, f"{type(error).__name__}: {error}"[:400]))


def machine_busy_s() -> float:
    """CPU seconds of the whole machine since it started, what the hypervisor gave to others included."""
    times = psutil.cpu_times()
    busy = times.user + times.nice + times.system
    return float(busy + sum(getattr(times, kind, 0.0) for kind in ("irq", "softirq", "steal")))


@contextmanager
def spawn(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, *, takes_orders: bool = False
) -> "Iterator[Process]":
    """A command and everything that it starts, in a session of its own; it writes to `log`, and ends with the block.

    takes_orders: each line on its stdin is an order, each on its stdout an answer.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("wb") as words,
        subprocess.Popen(  # noqa: S603 - the commands are this package's own
            command,
            stdin=subprocess.PIPE if takes_orders else subprocess.DEVNULL,
            stdout=subprocess.PIPE if takes_orders else words,
            stderr=words,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            text=True,
            start_new_session=True,
        ) as popen,
    ):
        process = Process(popen, log)
        try:
            yield process
        finally:
            process.stop()


class Process:
    """A command that `spawn` started, and its tree."""

    def __init__(self, popen: subprocess.Popen[str], log: Path) -> None:
        self._popen = popen
        self._log = log
        self._started_s = time.monotonic()

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float) -> float:
        """Wait until `is_ready` says so; returns the seconds since the start. Raises: Failed."""
        while not is_ready():
            if not self.is_running():
                raise Failed(f"ended with status {self._popen.returncode}: {self._words()}")
            if time.monotonic() - self._started_s > timeout_s:
                raise Failed(f"was not ready after {timeout_s:g} s: {self._words()}")
            time.sleep(POLL_S)
        return time.monotonic() - self._started_s

    def ask(self, timeout_s: float, **order: Any) -> Any:
        """The answer to an order, both a line of JSON; in time, or the process is killed. Raises: Failed."""
        assert self._popen.stdin
        assert self._popen.stdout
        alarm = threading.Timer(timeout_s, self._popen.kill)
        alarm.start()
        try:
            self._popen.stdin.write(json.dumps(order) + "\n")
            self._popen.stdin.flush()
            line = self._popen.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            alarm.cancel()
        if not line:
            raise Failed(f"ended with status {self._popen.wait()}: {self._words()}")
        return json.loads(line)

    def is_running(self) -> bool:
        """Whether the command itself has not ended."""
        return self._popen.poll() is None

    def cpu_s(self) -> float:
        """User and system seconds of the tree so far, children that have ended included."""
        return float(sum(self._of_each(lambda process: sum(process.cpu_times()[:4]))))

    def rss_bytes(self) -> int:
        """Resident memory of the tree, pages that processes share counted for each."""
        return int(sum(self._of_each(lambda process: process.memory_info().rss)))

    def pause(self) -> None:
        """Take the whole tree off the CPU, so that an idle server's polling costs others nothing."""
        list(self._of_each(lambda process: process.send_signal(signal.SIGSTOP)))

    def resume(self) -> None:
        """Let it run again."""
        list(self._of_each(lambda process: process.send_signal(signal.SIGCONT)))

    def stop(self) -> None:
        """Ask the tree to end, then kill what is left of it."""
        self.resume()
        tree = self._tree()
        with suppress(ProcessLookupError, BrokenPipeError):
            if self._popen.stdin:
                self._popen.stdin.close()
            self._popen.send_signal(signal.SIGINT)  # as Ctrl-C; on SIGTERM Triton and LitServe leave files behind
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_S)
        for process in tree:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    def _tree(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._popen.pid)
            return [root, *root.children(recursive=True)]
        return []

    def _of_each(self, ask: Callable[[psutil.Process], Any]) -> Iterator[Any]:
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                yield ask(process)

    def _words(self) -> str:
        return _last_words(self._log.read_text(errors="replace"))


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-4:])[-500:] or "it wrote nothing"
