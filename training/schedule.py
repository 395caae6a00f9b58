"""What changes while a training runs: its phase, the learning rate, and the weights of KL and gradient penalties.

    images shown / images in all -> Phase -> factors

A hybrid has two phases: it is a VAE first, then G learns from D as well. A VAE is all first phase, a GAN all second.
"""

import math
from dataclasses import dataclass

from training.settings import Family

ADVERSARIAL_START: dict[Family, float] = {"vae": 1.0, "gan": 0.0, "hybrid": 0.7}
"""Share of the training after which the adversarial part is on. A hybrid's E and prior are final by then: the samples that
D is shown come from the very prior that will be served."""

KL_WARMUP = 0.1
"""Share of the first phase over which the weight of the KL term grows from 0 to 1 (Bowman et al. 2016)."""

FINAL_RATE = 0.1
"""Learning rate at the end of a phase, as a part of that at its start."""


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


def first_adversarial_step(family: Family, steps: int) -> int:
    """The first step of the second phase; `steps` where there is none."""
    return round(ADVERSARIAL_START[family] * steps)


def phase(family: Family, step: int, steps: int) -> Phase:
    """The phase of `step`, from 0 to steps - 1."""
    start = first_adversarial_step(family, steps)
    if step < start:
        return Phase(False, step / start)
    return Phase(True, (step - start) / (steps - start))
