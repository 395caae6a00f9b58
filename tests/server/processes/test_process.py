"""A process that is kept running: whatever it says, however it ends, and when it says nothing."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from server.processes.child_process import Launch
from server.processes.process import HUNG_BEATS, SILENT_BEATS, SLOW_START_BEATS, START_BEATS, Process

pytestmark = pytest.mark.slow

READY = 'say(\'{"ready":true,"device":"cpu"}\'); '
WAIT = "sys.stdin.buffer.read()"


class Watched(Process):
    """A process that runs Python code, and can be waited for."""

    def __init__(self, code: str, command: list[str] | None = None) -> None:
        self.changed = asyncio.Event()
        program = f"import os, sys\ndef say(text):\n    print(text, flush=True)\n{code}"
        wake = self.changed.set
        command = command or [sys.executable, "-c", program]
        super().__init__("fake", Launch(command, dict(os.environ), []), lambda _: b"order", lambda _: wake(), wake)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return when something is so; it is looked at whenever the process has said something or ended."""
        while not is_so():
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 60)


@asynccontextmanager
async def running(process: Watched) -> AsyncIterator[Watched]:
    process.start()
    try:
        yield process
    finally:
        await process.stop(60)


async def soon(is_so: Callable[[], bool]) -> None:
    """Return when something is so that nobody tells."""
    while not is_so():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def stopped(process: Watched) -> int:
    """Stop a process as a debugger or a hang would; returns its number."""
    pid = process.pid
    os.kill(pid, signal.SIGSTOP)
    await soon(lambda: " T " in Path(f"/proc/{pid}/stat").read_text())
    return pid


@pytest.mark.parametrize(
    "junk",
    [
        "'Warning: something of a library'",
        "'{'",
        "'7'",
        "'[]'",
        "'null'",
        '\'{"ready": "yes"}\'',
        "'{\"else\": 1}'",
        "'[' * 900_000",
        "'x' * 3_000_000",
        "'\\udcff\\x00'",
    ],
    ids=["words", "half", "number", "list", "null", "type", "unknown", "deep", "long", "no utf-8"],
)
async def test_junk_is_logged_and_the_words_after_it_are_heard(junk: str):
    code = f"sys.stdout.reconfigure(errors='surrogateescape'); say({junk}); {READY}{WAIT}"
    with capture_logs() as lines:
        async with running(Watched(code)) as process:
            await process.until(lambda: process.is_ready)
            assert (process.failures, process.problem, process.device) == (0, "", "cpu")
    assert [line["event"] for line in lines if line["event"] == "process said what is no word"]


async def test_the_first_line_of_its_input_is_its_order():
    code = f'say(\'{{"ready":false,"problem":"\' + sys.stdin.readline().strip() + \'"}}\'); {WAIT}'
    async with running(Watched(code)) as process:
        await process.until(lambda: process.has_started)
        assert process.problem == "fake: order"


async def test_a_process_that_cannot_be_started_is_tried_again_and_says_why():
    async with running(Watched("", command=["/nowhere/python"])) as process:
        await process.until(lambda: process.failures == 2)
        assert process.problem.startswith("fake: cannot be started: ")
        assert "No such file" in process.problem


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("sys.exit(3)", "fake: has ended with status 3"),
        ("os.kill(os.getpid(), 7)", "fake: was ended by SIGBUS"),
        ('say(\'{"error":"no models"}\'); sys.exit(1)', "fake: no models"),
        (f"{READY}os._exit(0)", "fake: has ended with status 0"),
    ],
)
async def test_a_process_that_ends_is_started_again_and_tells_with_what_it_ended(code: str, problem: str):
    async with running(Watched(code)) as process:
        await process.until(lambda: process.failures == 2)
        assert process.problem == problem


async def test_an_end_is_seen_though_somebody_else_holds_the_pipe():
    code = "import subprocess; subprocess.Popen(['sleep', '5']); say('{\"error\":\"last words\"}'); sys.exit(1)"
    async with running(Watched(code)) as process:
        await process.until(lambda: process.problem == "fake: last words")
        await soon(lambda: process.beat() or process.failures == 1)


async def test_a_process_that_hangs_is_told_then_killed_and_started_again():
    async with running(Watched(f"{READY}{WAIT}")) as process:
        await process.until(lambda: process.is_ready)
        pid = await stopped(process)
        for _ in range(SILENT_BEATS):
            process.beat()
        assert process.problem == f"fake: has said nothing for {SILENT_BEATS} s"
        for _ in range(HUNG_BEATS - SILENT_BEATS):
            process.beat()
        await process.until(lambda: process.failures == 1)
        assert process.problem == f"fake: said nothing for {HUNG_BEATS} s and was killed"
        await process.until(lambda: process.is_ready)
        assert (process.problem, process.pid != pid) == ("", True)


async def test_a_sign_of_life_in_time_is_enough():
    code = f"{READY}\nfor line in sys.stdin.buffer: say('{{}}')"
    async with running(Watched(code)) as process:
        await process.until(lambda: process.is_ready)
        for _ in range(3):
            for _ in range(HUNG_BEATS - 1):
                process.beat()
            process._child.write(b"well?\n")
            await soon(lambda: not process.problem)
        assert process.failures == 0


async def test_a_process_that_never_serves_is_told_of_and_has_longer_to_say_something():
    with capture_logs() as lines:
        async with running(Watched(WAIT)) as process:
            await soon(lambda: process.pid is not None)
            for _ in range(START_BEATS - 1):
                process.beat()
            told = [line for line in lines if line["event"] == "process not ready yet"]
            assert len(told) == (START_BEATS - 1) // SLOW_START_BEATS
            assert (process.failures, process.problem) == (0, "fake: is starting")
            process.beat()
            await process.until(lambda: process.failures == 1)
            assert process.problem == f"fake: said nothing for {START_BEATS} s and was killed"


async def test_a_process_that_hangs_is_killed_at_the_stop():
    async with running(Watched(f"{READY}{WAIT}")) as process:
        await process.until(lambda: process.is_ready)
        await stopped(process)
        await process.stop(0.01)
        assert process.pid is None


async def test_a_stop_ends_the_pause_before_a_start():
    process = Watched("", command=["/nowhere/python"])
    async with running(process):
        await process.until(lambda: process.failures == 4)
    assert process._life.done()


async def test_bugs_in_what_hears_it_are_logged_and_its_life_goes_on():
    def fail(*_: object) -> None:
        raise OSError("a bug")

    with capture_logs() as lines:
        process = Watched(f"{READY}sys.exit()")
        process._on_status = process._on_end = fail
        async with running(process):
            await soon(lambda: process.failures == 2)
    events = {line["event"] for line in lines}
    assert events == {"bug: a word was not understood", "bug: an end was not dealt with", "process ended"}
