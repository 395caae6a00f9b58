"""The log: one form of line for whatever a process has to say."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, logging, os, sys, threading, warnings
from contextlib import redirect_stderr
from server.telemetry.logs import PrintedLines, set_up_logging
set_up_logging()
{}
"""


def lines_of(program: str) -> list[dict[str, object]]:
    """What a process that runs a program writes to standard error, line by line."""
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(program)], capture_output=True, text=True, check=False)
    return [json.loads(line) for line in done.stderr.splitlines()]


@pytest.mark.parametrize(
    ("program", "facts"),
    [
        (
            "logging.getLogger('grpc').warning('%s %d', 'words', 1)",
            {"logger": "grpc", "event": "words 1", "level": "warning"},
        ),
        ("warnings.warn('old')", {"logger": "py.warnings", "level": "warning"}),
        ("1 / 0", {"event": "bug: the process ends with an exception", "level": "critical"}),
        (
            "thread = threading.Thread(target=lambda: 1 / 0, name='t'); thread.start(); thread.join()",
            {"event": "bug: a thread ends with an exception", "thread": "t", "level": "error"},
        ),
        (
            "async def main():\n"
            "    asyncio.get_running_loop().call_soon(lambda: 1 / 0)\n"
            "    await asyncio.sleep(0)\n"
            "asyncio.run(main())",
            {"logger": "asyncio", "level": "error"},
        ),
        (
            "with redirect_stderr(PrintedLines()): print('one', 2, file=sys.stderr)",
            {"event": "printed", "text": "one 2"},
        ),
    ],
    ids=["logging", "a warning", "an exception", "in a thread", "in a callback", "print"],
)
def test_each_is_one_line(program: str, facts: dict[str, object]):
    (line,) = lines_of(program)
    assert line.items() >= facts.items()
    assert line["timestamp"]


def test_an_exception_is_told_with_its_traceback():
    (line,) = lines_of("1 / 0")
    assert "ZeroDivisionError" in line["exception"]


def test_grpc_says_nothing_past_python():
    program = "import grpc; server = grpc.aio.server; import socket\nasync def main():\n" + (
        "    try: grpc.aio.server().add_insecure_port('192.0.2.1:1')\n    except RuntimeError: pass\nasyncio.run(main())"
    )
    assert lines_of(program) == []
