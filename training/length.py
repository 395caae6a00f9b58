"""How long a training goes on, by images or by the clock, and the phase of each of its steps.

    settings -> Length -> (step, seconds spent) -> Phase, or None where it is over

By the clock, phases and rates follow the time that the training itself took, before it was stopped too. Knows no network.
"""

import math

from training.families import family
from training.schedule import Phase, first_adversarial_step, phase
from training.settings import TrainSettings

MAP_START = 0.35
"""Share of the time after which the second phase of a hybrid of maps begins; its images take four times as long as the
first's, so by images it is the same share as of vectors."""


class Length:
    """Of one training."""

    def __init__(self, settings: TrainSettings) -> None:
        self._family = settings.family
        self._steps = math.ceil(settings.images / settings.batch)
        self._images = settings.images
        self.seconds = None if settings.minutes is None else 60 * settings.minutes
        """Of the whole training; None: it is as long as its images."""
        start = family(settings.family).adversarial_start
        self.start = MAP_START if 0 < start < 1 and settings.latent == "map" else start
        """Share of the time after which the second phase begins."""

    def phase(self, step: int, spent_s: float) -> Phase | None:
        """The phase of a step, from 0 on, that begins after `spent_s` seconds."""
        if self.seconds is None:
            return phase(self._family, step, self._steps) if step < self._steps else None
        share = spent_s / self.seconds
        if share >= 1:
            return None
        if share < self.start:
            return Phase(False, share / self.start)
        return Phase(True, (share - self.start) / (1 - self.start))

    def total(self, images: int, spent_s: float) -> int:
        """Images of the whole training; by the clock about, at the rate so far. images: shown in `spent_s` seconds."""
        if self.seconds is None:
            return self._images
        return max(images, round(images * self.seconds / max(spent_s, 1e-9)))

    def share(self, is_adversarial: bool) -> float:
        """Of a phase in the training; 0 where there is none."""
        return 1 - self.start if is_adversarial else self.start

    def steps(self, is_adversarial: bool, step_s: float) -> int:
        """Of a phase whose steps take `step_s` seconds each."""
        if self.seconds is not None:
            return round(self.share(is_adversarial) * self.seconds / step_s)
        start = first_adversarial_step(self._family, self._steps)
        return self._steps - start if is_adversarial else start
