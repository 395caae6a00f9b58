"""The training loop: one for all families.

    Learner, images -> [draw -> learn -> report, sheet, checkpoint] ... -> prior -> run folder

Every random draw of a step comes from a generator seeded by (seed, step), so what a step does depends on nothing but
its number and the weights: a training that was stopped goes on as if it had not been. Knows nothing of export or serving.
"""

import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from training import checkpoint, threads
from training.batch import Batch, draw_batch
from training.calibration import calibrate
from training.data import ImageSet, Rows
from training.errors import Diverged, RunFolderError, Stopped
from training.learner import Learner
from training.length import Length
from training.model import Model
from training.parallel import World
from training.posterior import fit_mixture
from training.record import standing
from training.run import Run
from training.schedule import Phase, PhaseName, phase_name
from training.sheets import Sheets

REPORT_STEPS = 20
"""Steps between two reports: losses are read back from the device only then, and after each of the first."""

WATCHED_STEPS = 100
"""First steps of a training after each of which losses are read: most that diverge do so there."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands: `images` shown of `total`, at what rate in this process's time.

    threads: of the CPU, that the steps were found quickest by; None where nobody looked.
    """

    images: int
    total: int
    images_per_s: float = 0.0
    threads: int | None = None


Report = Callable[[Progress], None]


class Training:
    """One run from the step where it stands to its end."""

    def __init__(self, learner: Learner, seen: ImageSet, held_out: ImageSet, device: torch.device, here: World) -> None:
        """Raises: TrainingError, if the best model is to be kept and there are too few held-out images to tell it."""
        self._learner = learner
        self._sheets = Sheets(learner, seen, held_out)
        self._settings = learner.settings
        self._seen = seen
        self._device = device
        self._world = here
        self._length = Length(learner.settings)
        self._is_frozen = False
        self._unread: list[dict[str, Tensor]] = []
        self._losses: dict[str, float] = {}
        self._phase: PhaseName | None = None
        self._spent_s = 0.0
        self._started_s = time.monotonic()
        self._began = 0

    def load(self, state: dict[str, Tensor]) -> int:
        """Stand where the checkpoint was taken. Returns the images shown by then. Raises: RunFolderError."""
        try:
            self._is_frozen, self._spent_s = bool(state["is_frozen"]), float(state["spent_s"])
            self._learner.load(state, self._is_frozen)
            self._sheets.load(state)
        except (KeyError, RuntimeError, ValueError, IndexError) as error:
            told = checkpoint.OF_OTHERS.format(folder=self._settings.out, error=str(error)[:300])
            raise RunFolderError(told) from error
        self._began = self._learner.images
        return self._began

    def finish(self, run: Run, report: Report, is_stopped: Callable[[], bool]) -> Model:
        """The steps that are left, then the last sample grids and the model."""
        settings, learner = self._settings, self._learner
        self._started_s = time.monotonic()
        batches, step, now = self._place()
        self._go_on(run)
        while now is not None:
            self._enter(now, step, run)
            self._unread.append(learner.learn(self._draw(step, next(batches)), now))
            if step < WATCHED_STEPS:
                self._read(step)
            following = self._length.phase(step + 1, self._elapsed_s())

            # Report: read the losses back, stop if one went bad. No phase ends unread.
            ends_phase = following is None or following.is_adversarial != now.is_adversarial
            if is_due := (step + 1) % REPORT_STEPS == 0 or ends_phase:
                self._report(run, report, step)

            # Sheet: a look at samples, which may send the training back to an earlier step.
            if self._sheets.have_sent_back(run, now, step, self._images_per_s(), following is None):
                self._began = min(self._began, learner.images)
                self._unread.clear()
                batches, step, now = self._place()
                continue

            # Stop: between steps, where all that decides the next is in the checkpoint.
            stops = is_stopped() if self._world.size == 1 else is_due and self._world.agree(is_stopped())
            if stops and following is not None:
                self._save(run, step)
                where = standing(settings.out, settings)
                raise Stopped(f"stopped after {where}; to take it as it is: figment export {settings.out}")
            if learner.images % settings.checkpoint_every < settings.batch:
                self._save(run, step)
            step, now = step + 1, following

        model, kept = self._sheets.outcome(step - 1)
        run.finish(learner.images if settings.minutes else settings.images, model, kept)
        return model

    def _place(self) -> tuple[Iterator[Rows], int, Phase | None]:
        """Where the learner is: batches to come, the number of the step that comes, and its phase, None where it is over."""
        images, settings = self._learner.images, self._settings
        step = images // settings.batch
        batches = self._seen.batches(settings.batch, settings.seed, start=images)
        return batches, step, self._length.phase(step, self._elapsed_s())

    def _go_on(self, run: Run) -> None:
        """Before the first step of a training that is continued: as many threads as by the step before."""
        phase = phase_name(self._is_frozen or not self._learner.family.has_encoder)
        if self._began and phase in run.threads:
            self._phase = phase
            torch.set_num_threads(run.threads[phase])

    def _enter(self, now: Phase, step: int, run: Run) -> None:
        """Before the first step of a phase: E and the prior become final in the second of two, threads are counted."""
        model, phase = self._learner.ema, phase_name(now.is_adversarial)
        if now.is_adversarial and not self._is_frozen and self._learner.family.has_encoder:
            calibrate(model, self._seen, self._settings.seed)
            self._learner.freeze_encoder(fit_mixture(model, self._seen, self._settings))
            self._is_frozen = True
        if self._settings.threads == "auto" and phase != self._phase:
            self._phase = phase
            if phase not in run.threads:
                run.keep_threads(phase, self._quickest(now, step))
            torch.set_num_threads(run.threads[phase])
        self._sheets.enter(now)

    def _quickest(self, now: Phase, step: int) -> int:
        """The number of threads by which the steps from `step` on take least time: copies of the networks take some."""
        among = threads.numbers(self._length, now.is_adversarial, self._device, self._world)
        if len(among) == 1:
            return among[0]
        learner, steps = deepcopy(self._learner), count(step)
        batches = self._seen.batches(self._settings.batch, self._settings.seed, start=learner.images)
        return threads.quickest(lambda: learner.learn(self._draw(next(steps), next(batches)), now), among)

    def _draw(self, step: int, rows: Rows) -> Batch:
        """What a step is given; rows: those of its batch."""
        latent_dim, noise_dim = self._learner.model.latent_dim, self._learner.model.noise_dim
        return draw_batch(self._settings, step, self._seen, rows, latent_dim, noise_dim, self._device, self._world)

    def _report(self, run: Run, report: Report, step: int) -> None:
        """Say where the training is after `step`. Raises: Diverged."""
        images, losses = self._learner.images, self._read(step)
        rate = self._images_per_s()
        run.write_stats(images, rate, losses)
        total = self._length.total(images, self._elapsed_s())
        of_phase = run.threads.get(self._phase) if self._phase else None
        report(Progress(min(images, total), total, rate, of_phase))

    def _images_per_s(self) -> float:
        """Of this process; those that a collapse lost do not count."""
        return (self._learner.images - self._began) / (time.monotonic() - self._started_s)

    def _save(self, run: Run, step: int) -> None:
        """Write the checkpoint after `step`, unless a loss went bad: nothing good could come after it."""
        self._read(step)
        spent_s = torch.tensor(self._elapsed_s(), dtype=torch.float64)
        phase = {"is_frozen": torch.tensor(self._is_frozen), "spent_s": spent_s}
        run.save(self._learner.state() | self._sheets.state() | phase)
        self._world.barrier()  # torchrun ends all processes when one has left

    def _elapsed_s(self) -> float:
        """Seconds of this training so far, those before it was stopped too; by the clock the same for all processes."""
        elapsed_s = self._spent_s + time.monotonic() - self._started_s
        if self._length.seconds is None:
            return elapsed_s
        return float(self._world.mean(torch.tensor(elapsed_s, dtype=torch.float64, device=self._device)))

    def _read(self, last: int) -> dict[str, float]:
        """The losses of step number `last`, where all those that are unread end: means over the processes.

        Raises: Diverged, naming the first step with a loss that is not finite, and each such loss.
        """
        for step, losses in enumerate(self._unread, last + 1 - len(self._unread)):
            means = self._world.mean(torch.stack(list(losses.values()))).tolist()
            self._losses = dict(zip(losses, means, strict=True))
            if bad := [f"{name} is {value}" for name, value in self._losses.items() if not math.isfinite(value)]:
                raise Diverged.with_advice(f"step {step}: {', '.join(bad)}", self._settings)
        self._unread.clear()
        return self._losses
