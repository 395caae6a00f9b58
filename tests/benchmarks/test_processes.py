"""Processes of the benchmarks: what they answer, what becomes of those that fail, stay silent or will not end."""

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.export import orders
from benchmarks.serving import plan
from benchmarks.shared.processes import Failed, in_subprocess, run, spawn
from benchmarks.shared.timing import repeat

pytestmark = pytest.mark.slow

ECHO = "import sys\nfor line in sys.stdin:\n    print(line.strip() if 'again' in line else exit(3), flush=True)"


def sum_of(*numbers: int) -> int:
    print("which is no part of the answer")
    return sum(numbers)


def divided(number: int) -> float:
    return 1 / number


def vanish() -> None:
    os._exit(7)


def test_a_function_in_a_subprocess_gives_its_result_or_its_reason():
    assert in_subprocess(sum_of, 60, 1, 2) == 3
    with pytest.raises(Failed, match="ZeroDivisionError: division by zero"):
        in_subprocess(divided, 60, 0)
    with pytest.raises(Failed, match="vanish ended with status 7"):
        in_subprocess(vanish, 60)


def test_a_function_in_a_subprocess_that_takes_too_long_is_ended():
    with pytest.raises(Failed, match=r"did not end within 0\.1 s"):
        in_subprocess(time.sleep, 0.1, 600)


def test_a_command_that_fails_says_its_last_words():
    assert run([sys.executable, "-c", "print(1)"]) == "1\n"
    with pytest.raises(Failed, match=r"ended with status 1: .*no such thing"):
        run([sys.executable, "-c", "exit('no such thing')"])
    with pytest.raises(Failed, match="nowhere"):
        run(["/nowhere"])


def test_a_process_takes_orders_until_it_ends(tmp_path: Path):
    with spawn([sys.executable, "-c", ECHO], tmp_path / "log", takes_orders=True) as process:
        assert process.ask(60, order="again", batches=(1, 2)) == {"order": "again", "batches": [1, 2]}
        assert process.rss_bytes() > 0
        process.pause()
        process.resume()
        with pytest.raises(Failed, match="ended with status 3"):
            process.ask(60, order="end")
    assert not process.is_running()


def test_a_process_that_is_not_ready_in_time_or_ends_before_is_told(tmp_path: Path):
    command = [sys.executable, "-c", "exit('no port')"]
    with spawn(command, tmp_path / "log") as process, pytest.raises(Failed, match="ended with status 1: no port"):
        process.wait_until(lambda: False, 60)
    with spawn([sys.executable, "-c", "input()"], tmp_path / "log", takes_orders=True) as process:
        with pytest.raises(Failed, match="was not ready after 0 s"):
            process.wait_until(lambda: False, 0)
        assert process.wait_until(lambda: True, 0) > 0


def test_what_a_process_started_ends_with_it(tmp_path: Path):
    command = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE).wait()"
    )
    with spawn([sys.executable, "-c", command], tmp_path / "log") as process:
        process.wait_until(lambda: len(process._tree()) == 2, 60)
        tree = process._tree()
    _, alive = psutil.wait_procs(tree, timeout=10)
    assert not alive


def test_a_step_is_taken_once_at_least_and_warm_ones_are_not_counted():
    taken: list[int] = []
    took = repeat(lambda: taken.append(1), seconds=0, warm=2)
    assert (len(taken), took.steps) == (3, 1)
    assert took.seconds_a_step == took.seconds == took.p50_s


def test_of_several_forms_the_one_with_the_least_cpu_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(orders, "WARM_S", 0)
    forms = {"slow": lambda inputs: sum(range(200_000)), "quick": lambda inputs: None}
    assert orders.quickest(forms, {}) == "quick"


def test_a_quick_plan_is_shorter_but_what_was_given_stays():
    short = plan.read(["--quick", "--rounds", "7", "--no-peers", "--variant", "two=--gateways 2", "--images", "16"])
    assert (short.rounds, short.span.window_s, short.starts, short.open_fractions) == (7, 1.5, 2, (0.7,))
    assert (short.images, short.peers) == ((16,), ())
    assert short.variants == {"figment": (), "two": ("--gateways", "2")}
    usual = plan.read(["--no-open-loop"])
    assert (usual.rounds, usual.span.window_s, usual.soak_requests) == (5, 3, 200_000)
    assert "open" not in usual.parts
    assert plan.read(["--contenders", "mosec,alone"]).parts == ("closed", "single", "start")


@pytest.mark.parametrize("wrong", [["--variant", "mosec=x"], ["--variant", "two"], ["--parts", "closed,ajar"]])
def test_a_plan_that_is_none_ends_the_program(wrong: list[str]):
    with pytest.raises(SystemExit):
        plan.read(wrong)
