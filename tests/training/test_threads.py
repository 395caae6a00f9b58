"""The number of CPU threads that a training finds its steps quicker by; time is told, not measured."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from training import progress, threads
from training.errors import Stopped
from training.length import Length
from training.parallel import ALONE, World
from training.record import read_record
from training.settings import TrainSettings
from training.trainer import Progress, resume, train

CPU = torch.device("cpu")


def _settings(out: Path = Path("run"), **changes: Any) -> TrainSettings:
    chosen = {"data": "digits", "size": 8, "latent_dim": 4, "images": 160, "batch": 16, "device": "cpu"}
    return TrainSettings.model_validate({"out": out, "family": "hybrid", "sheet_every": 10_000, **chosen, **changes})


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Clock:
    """Told by steps how late it is: one takes so many seconds by each number of threads, the first of each longer."""

    def __init__(self, took_s: dict[int, float], warming_s: float = 0.0) -> None:
        self.now_s = 0.0
        self.steps: list[int] = []
        self._took_s = took_s
        self._warming_s = warming_s

    def step(self) -> None:
        number = torch.get_num_threads()
        self.now_s += self._took_s[number] + (self._warming_s if number not in self.steps else 0.0)
        self.steps.append(number)

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(("took_s", "quickest"), [({1: 0.03, 2: 0.02}, 2), ({1: 0.01, 2: 0.02}, 1), ({1: 1, 2: 1}, 1)])
def test_the_number_by_which_steps_are_quicker_is_taken(took_s: dict[int, float], quickest: int) -> None:
    clock = Clock(took_s)
    assert threads.quickest(clock.step, [1, 2], clock) == quickest


def test_steps_that_warm_up_do_not_count() -> None:
    clock = Clock({1: 0.02, 2: 0.01}, warming_s=0.5)
    assert threads.quickest(clock.step, [1, 2], clock) == 2
    assert clock.steps == [1, 2] * (1 + threads.ROUNDS)


@pytest.mark.parametrize(("step_s", "rounds"), [(0.1, 5), (0.25, 3), (0.75, 1), (30.0, 1)])
def test_looking_ends_after_a_second_or_a_round(step_s: float, rounds: int) -> None:
    clock = Clock({1: step_s, 2: step_s / 2})
    assert threads.quickest(clock.step, [1, 2], clock) == 2
    assert len(clock.steps) == 2 * (1 + rounds)


@pytest.mark.parametrize(
    ("changes", "device", "world", "cpus", "numbers"),
    [
        ({"images": 100_000}, CPU, ALONE, 4, [1, 4]),
        ({"images": 100_000}, CPU, ALONE, 1, [1]),
        ({"images": 100_000}, CPU, World(0, 2), 4, [1]),
        ({"images": 100_000}, torch.device("cuda"), ALONE, 4, [1]),
        ({"images": 1_600}, CPU, ALONE, 4, [1]),
        ({"minutes": 5, "images": 100_000}, CPU, ALONE, 4, [1, 4]),
        ({"minutes": 0.5, "images": 100_000}, CPU, ALONE, 4, [1]),
    ],
)
def test_it_is_looked_for_on_several_cpus_in_phases_that_are_long_enough(
    changes: dict[str, Any],
    device: torch.device,
    world: World,
    cpus: int,
    numbers: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "usable_cpus", lambda: cpus)
    assert threads.numbers(Length(_settings(**changes)), False, device, world) == numbers


@pytest.mark.parametrize("given", ["auto", 3, "3"])
def test_a_number_may_be_given(given: object) -> None:
    assert str(_settings(threads=given).threads) == str(given)
    assert TrainSettings.model_validate_json(_settings(threads=given).model_dump_json()) == _settings(threads=given)


@pytest.mark.parametrize("given", [0, -1, "all", 1.5, True, None])
def test_what_is_no_number_of_threads_is_refused(given: object) -> None:
    with pytest.raises(ValidationError, match="allowed: auto, or a number from 1"):
        _settings(threads=given)


def test_a_log_tells_the_number_that_was_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_S", 0.0)
    with progress.told("vae on digits", total=1200) as report:
        for found in (None, 2, 1):
            report(Progress(600, 1200, 10.0, found))
    told = "vae on digits: 600 of 1200 images, 10/s, 1.0 minutes left"
    assert capsys.readouterr().err.splitlines() == [told, f"{told}, 2 CPU threads", f"{told}, 1 CPU thread"]


def _finds(found: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have trainings take trial steps, and find these numbers, one after another."""

    def quickest(step: Callable[[], object], among: Sequence[int]) -> int:
        assert among == [1, 2]
        for _ in range(3):
            step()
        return found.pop(0)

    monkeypatch.setattr(threads, "MIN_STEPS", 1)
    monkeypatch.setattr(threads, "usable_cpus", lambda: 2)
    monkeypatch.setattr(threads, "quickest", quickest)


def _left(run: Path) -> list[str]:
    return [hashlib.sha256((run / name).read_bytes()).hexdigest() for name in ("weights.safetensors", "model.json")]


KINDS: dict[str, dict[str, Any]] = {
    "hybrid": {},
    "gan": {"family": "gan", "conditional": True, "diffaugment": True},
    "maps": {"adversarial": "features", "size": 16, "latent_dim": 20, "images": 32},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_looking_leaves_weights_and_random_numbers_as_they_were(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _finds([1, 1], monkeypatch)
    before = torch.get_rng_state()
    train(_settings(tmp_path / "looked", **KINDS[kind]))
    train(_settings(tmp_path / "told", threads=1, **KINDS[kind]))
    assert torch.equal(torch.get_rng_state(), before)
    assert _left(tmp_path / "looked") == _left(tmp_path / "told")
    names = ["adversarial"] if kind == "gan" else ["likelihood", "adversarial"]
    assert read_record(tmp_path / "looked").threads == dict.fromkeys(names, 1)
    assert read_record(tmp_path / "told").threads == {}


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, 7])
def test_a_run_that_is_continued_keeps_its_numbers(steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the first phase, and after its last step, where what comes between the phases is computed when it goes on."""
    found, seen, asked = [2, 1], list[tuple[int, int | None]](), iter(range(1, 100))
    _finds(found, monkeypatch)
    run, tell = tmp_path / "run", lambda now: seen.append((torch.get_num_threads(), now.threads))
    with pytest.raises(Stopped):
        train(_settings(run), tell, lambda: next(asked) == steps)
    assert read_record(run).threads == {"likelihood": 2}
    resume(run, tell)
    assert found == []
    assert seen == [(2, 2), (1, 1)]
    assert json.loads((run / "run.json").read_text())["settings"]["threads"] == "auto"

    _finds([2, 1], monkeypatch)
    train(_settings(tmp_path / "whole"))
    assert _left(run) == _left(tmp_path / "whole")


@pytest.mark.slow
def test_a_short_run_looks_for_nothing(tmp_path: Path) -> None:
    told: list[Progress] = []
    train(_settings(tmp_path / "run", family="gan", images=16), told.append)
    assert read_record(tmp_path / "run").threads == {"adversarial": 1}
