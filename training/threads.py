"""How many CPU threads a training computes with, where that is left to it: the number its own steps take less time with.

    Length -> 1 and all usable CPUs -> some steps by each, in turns -> number

Small networks are slower by two threads than by one, and so are any beside other trainings. Other numbers add in another
order, which decides last bits: a run keeps the number of each of its phases, by which it is continued too.
"""

import time
from collections.abc import Callable, Sequence
from statistics import median

import torch

from figment.machine import usable_cpus
from training.length import Length
from training.parallel import World

MIN_STEPS = 300
"""Of a phase for which the number is looked for; in a shorter one that would take more time than it could save."""

STEP_S = 0.1
"""What a step is taken to last where a phase is as long as the clock says."""

ROUNDS = 5
"""Steps of each number that are timed, after one that is not."""

BUDGET_S = 1.0
"""Time after which no further round is begun; with the steps that are not timed, twice that."""


def numbers(length: Length, is_adversarial: bool, device: torch.device, here: World) -> list[int]:
    """Numbers of threads that a phase may be quicker by, in order; 1 alone where nothing is to be found out."""
    is_alone_on_cpu = device.type == "cpu" and here.size == 1
    is_long = length.steps(is_adversarial, STEP_S) >= MIN_STEPS
    return sorted({1, usable_cpus()}) if is_alone_on_cpu and is_long else [1]


def quickest(step: Callable[[], object], among: Sequence[int], now_s: Callable[[], float] = time.perf_counter) -> int:
    """Of some numbers of threads the one by which `step` takes least time in the median, the first of equals.

    The process computes with one of them or another afterwards.
    """
    took: dict[int, list[float]] = {number: [] for number in among}
    for number in among:  # What is done once, and first of all, says nothing of what follows.
        torch.set_num_threads(number)
        step()
    began_s = now_s()
    for _ in range(ROUNDS):
        for number in among:
            torch.set_num_threads(number)
            started_s = now_s()
            step()
            took[number].append(now_s() - started_s)
        if now_s() - began_s > BUDGET_S:
            break
    return min(among, key=lambda number: median(took[number]))
