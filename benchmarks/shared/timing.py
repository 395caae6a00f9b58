"""The one loop by which whatever runs in this process is timed: the same step for a while.

    step -> warm runs -> repeat(seconds) -> Took

Knows nothing of what a step does; needs NumPy only, because peers have environments of their own.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Took:
    """What a while of steps took; cpu_s is of all threads of the process."""

    steps: int
    seconds: float
    cpu_s: float
    p50_s: float

    @property
    def seconds_a_step(self) -> float:
        """The mean."""
        return self.seconds / self.steps


def repeat(step: Callable[[], object], seconds: float, warm: int = 0) -> Took:
    """Take `step` until `seconds` are over, at least once; before the clock starts, `warm` times."""
    for _ in range(warm):
        step()
    steps_s: list[float] = []
    cpu_s, started_s = time.process_time(), time.perf_counter()
    now_s = started_s
    while not steps_s or now_s - started_s < seconds:
        step()
        before_s, now_s = now_s, time.perf_counter()
        steps_s.append(now_s - before_s)
    return Took(len(steps_s), now_s - started_s, time.process_time() - cpu_s, float(np.median(steps_s)))
