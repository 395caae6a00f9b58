"""What changes while a training runs: its phase, the learning rate, and the weights of KL and gradient penalties.

    images shown / images in all -> Phase -> factors

The first phase is one of the likelihood, in the second G learns from D; some families have one of them only.
"""

import math
from dataclasses import dataclass
from typing import Literal

from training.families import family

KL_WARMUP = 0.1
"""Share of the first phase over which the weight of the KL term grows from 0 to 1 (Bowman et al. 2016)."""

FINAL_RATE = 0.1
"""Learning rate at the end of a phase, as a part of that at its start."""


PhaseName = Literal["likelihood", "adversarial"]


def phase_name(is_adversarial: bool) -> PhaseName:
    """What a phase is called, by what E and G, or D and G, learn from in it."""
    return "adversarial" if is_adversarial else "likelihood"


@dataclass(frozen=True)
class Phase:
    """Where a training stands. progress: share of the phase that is done, from 0 to 1."""

    is_adversarial: bool
    progress: float

    @property
    def rate(self) -> float:
        """Factor of the learning rate: from 1 to FINAL_RATE by a cosine."""
        return FINAL_RATE + (1 - FINAL_RATE) * self._falling

    @property
    def kl(self) -> float:
        """Weight of the KL term."""
        return 1.0 if self.is_adversarial else min(1.0, self.progress / KL_WARMUP)

    def between(self, first: float, last: float) -> float:
        """From `first` to `last` by the same cosine."""
        return last + (first - last) * self._falling

    @property
    def _falling(self) -> float:
        return 0.5 * (1 + math.cos(math.pi * self.progress))


def first_adversarial_step(name: str, steps: int) -> int:
    """The first step of the second phase of a family; `steps` where there is none."""
    return round(family(name).adversarial_start * steps)


def phase(name: str, step: int, steps: int) -> Phase:
    """The phase of a family in `step`, from 0 to steps - 1."""
    start = first_adversarial_step(name, steps)
    if step < start:
        return Phase(False, step / start)
    return Phase(True, (step - start) / (steps - start))
