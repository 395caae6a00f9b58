"""The training loop: one for all families.

    settings -> images, networks -> [draw -> learn -> report, sample grid, checkpoint] ... -> prior -> run folder

Every random draw of a step comes from a generator seeded by (seed, step), so what a step does depends on nothing but
its number and the weights: a training that was stopped goes on as if it had not been. Knows nothing of export or serving.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from training import checkpoint
from training.adversarial import ADVERSARIAL
from training.architecture import PRESETS, Architecture, MapArchitecture
from training.batch import draw_batch
from training.calibration import calibrate
from training.data import ImageSet
from training.defaults import resolved
from training.errors import Diverged, RunFolderError, Stopped, TrainingError
from training.inversion import finished_model, reconstruction_psnr_db
from training.learner import Learner
from training.length import Length
from training.model import Model, ModelFacts
from training.parallel import ALONE, World, world
from training.posterior import fit_mixture, pixel_variance
from training.record import is_finished, read_record, standing
from training.run import Run, check_free
from training.settings import TrainSettings
from training.sources import load

COLOUR_IMAGES = 1_000
"""Images of which networks begin with the mean colour."""

REPORT_STEPS = 20
"""Steps between two reports: losses are read back from the device only then."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands: `images` shown of `total`, at what rate in this process's time."""

    images: int
    total: int
    images_per_s: float = 0.0


Report = Callable[[Progress], None]


def train(
    settings: TrainSettings, report: Report = lambda progress: None, is_stopped: Callable[[], bool] = lambda: False
) -> Model:
    """Train one model, write its run folder, and return the averaged model.

    report: told how it goes, a few times a second. is_stopped: asked after each step.

    Raises: DataError, RunFolderError, Diverged, Stopped: the last two leave a checkpoint or the reason.
    """
    with world(settings.device) as (here, device):
        if here.is_first:
            check_free(settings.out)
        seen, held_out = load_images(settings)
        settings = resolved(settings, seen)
        training = _Training(settings, seen, held_out, torch_device(device), here)
        run = Run.create(settings, seen, held_out, here.is_first)
        return training.finish(run, report, is_stopped)


def resume(
    folder: Path, report: Report = lambda progress: None, is_stopped: Callable[[], bool] = lambda: False
) -> Model:
    """Continue the training in `folder` from its checkpoint: what comes out is what an uninterrupted training gives.

    Raises: as `train`; RunFolderError too, if there is nothing to continue or the data have changed.
    """
    settings = read_record(folder).settings.model_copy(update={"out": folder})
    if is_finished(folder):
        raise RunFolderError(f"{folder} is a finished run: nothing is left to do")
    if not (folder / checkpoint.FILE).is_file():
        raise RunFolderError(f"{folder} cannot be continued: {standing(folder, settings)}")
    state = checkpoint.load(folder)
    with world(settings.device) as (here, device):
        seen, held_out = load_images(settings)
        run = Run.reopen(settings, seen, held_out, here.is_first)
        training = _Training(settings, seen, held_out, torch_device(device), here)
        run.forget_after(training.load(state))
        return training.finish(run, report, is_stopped)


def load_images(settings: TrainSettings) -> tuple[ImageSet, ImageSet]:
    """The images to learn from, and those that are kept back.

    Raises: DataError.
    """
    images = load(
        settings.data,
        settings.size,
        settings.skip_broken,
        settings.cache,
        value_range=settings.value_range,
        splits=settings.split,
        needs_labels=settings.conditional,
    )
    if settings.binarise:
        images = images.binarised(settings.seed)
    return images.split(settings.held_out, settings.seed)


def learner(settings: TrainSettings, images: ImageSet, device: torch.device, here: World = ALONE) -> Learner:
    """New networks for `images`, or a new encoder for finished ones. Raises: TrainingError."""
    settings = resolved(settings, images)
    torch.set_num_threads(settings.threads)
    here.check(settings.batch)
    if settings.encoder_for:
        finished = finished_model(settings, images)
        inverse = replace(finished.facts, inverse_psnr_db=0.0)
        return Learner(settings, inverse, device, here, generator=finished.generator)
    labels = images.label_names if settings.conditional else []
    is_normalised = ADVERSARIAL[settings.adversarial].is_normalised
    if is_normalised and here.size > 1:
        raise TrainingError(
            f"adversarial: {settings.adversarial} takes batch norms of whole batches; allowed with one process"
        )
    size, _, channels = images.shape
    architecture: Architecture | MapArchitecture
    if settings.latent == "map":
        architecture = MapArchitecture.of(settings.preset, size, channels, len(labels))
    else:
        width, blocks = PRESETS[settings.preset]
        architecture = Architecture(size, channels, settings.latent_dim, width, len(labels), blocks, is_normalised)
    facts = ModelFacts(settings.family, architecture, labels, 0, settings.likelihood)
    colour = images.pixels(slice(0, COLOUR_IMAGES)).mean((0, 2, 3))
    return Learner(settings, facts, device, here, colour)


class _Training:
    """One run from the step where it stands to its end."""

    def __init__(
        self, settings: TrainSettings, seen: ImageSet, held_out: ImageSet, device: torch.device, here: World
    ) -> None:
        self._settings = settings
        self._seen = seen
        self._held_out = held_out
        self._device = device
        self._world = here
        self._learner = learner(settings, seen, device, here)
        self._length = Length(settings)
        self._is_frozen = False
        self._spent_s = 0.0
        self._started_s = time.monotonic()

    def load(self, state: dict[str, Tensor]) -> int:
        """Stand where the checkpoint was taken. Returns the images shown by then. Raises: RunFolderError."""
        try:
            self._is_frozen, self._spent_s = bool(state["is_frozen"]), float(state["spent_s"])
            self._learner.load(state, self._is_frozen)
        except (KeyError, RuntimeError, ValueError, IndexError) as error:
            raise RunFolderError(
                f"{self._settings.out}: the checkpoint is of other networks, or of another version: {str(error)[:300]}"
            ) from error
        return self._learner.images

    def finish(self, run: Run, report: Report, is_stopped: Callable[[], bool]) -> Model:
        """The steps that are left, then the last sample grids and the model."""
        settings, learner = self._settings, self._learner
        began = learner.images
        batches = self._seen.batches(settings.batch, settings.seed, start=began)
        self._started_s = time.monotonic()
        unread: list[dict[str, Tensor]] = []
        step = began // settings.batch
        now = self._length.phase(step, self._elapsed_s())
        while now is not None:
            if now.is_adversarial and not self._is_frozen and learner.family.has_encoder:
                calibrate(learner.ema, self._seen, settings.seed)
                learner.freeze_encoder(fit_mixture(learner.ema, self._seen, settings))
                self._is_frozen = True
            batch = draw_batch(
                settings,
                step,
                self._seen,
                next(batches),
                learner.model.latent_dim,
                learner.model.noise_dim,
                self._device,
                self._world,
            )
            unread.append(learner.learn(batch, now))
            following = self._length.phase(step + 1, self._elapsed_s())

            # Report: read the losses back, stop if one went bad, draw a sample grid when one is due. No phase ends unread.
            is_last = following is None
            ends_phase = following is None or following.is_adversarial != now.is_adversarial
            if is_due := (step + 1) % REPORT_STEPS == 0 or ends_phase:
                losses = self._read(unread, step)
                unread.clear()
                rate = (learner.images - began) / (time.monotonic() - self._started_s)
                run.write_stats(learner.images, rate, losses)
                total = self._length.total(learner.images, self._elapsed_s())
                report(Progress(min(learner.images, total), total, rate))
            if run.has_grids_due(learner.images):
                calibrate(learner.ema, self._seen, settings.seed)
                run.draw_grids(learner.images, learner.ema)

            # Stop: between steps, where all that decides the next is in the checkpoint.
            stops = is_stopped() if self._world.size == 1 else is_due and self._world.agree(is_stopped())
            if stops and not is_last:
                self._save(run, unread, step)
                raise Stopped(f"stopped after {standing(settings.out, settings)}")
            if (
                learner.images // settings.checkpoint_every
                > (learner.images - settings.batch) // settings.checkpoint_every
            ):
                self._save(run, unread, step)
            step, now = step + 1, following

        model = learner.ema
        calibrate(model, self._seen, settings.seed)
        if learner.family.has_encoder:
            if model.mixture is None:
                model.set_mixture(fit_mixture(model, self._seen, settings))
            if learner.likelihood.has_variance:
                model.variance.copy_(pixel_variance(model, self._seen, settings))
        if bad := [name for name, value in model.state_dict().items() if not value.isfinite().all()]:
            raise Diverged.with_advice(f"step {step - 1}: {bad[0]} is not finite after it", settings)
        if model.is_inverted:
            model.inverse_psnr_db = reconstruction_psnr_db(model, self._held_out)
        model = model.to("cpu")
        run.finish(learner.images if settings.minutes else settings.images, model)
        return model

    def _save(self, run: Run, unread: list[dict[str, Tensor]], step: int) -> None:
        """Write the checkpoint after `step`, unless a loss went bad: nothing good could come after it."""
        self._read(unread, step)
        spent_s = torch.tensor(self._elapsed_s(), dtype=torch.float64)
        run.save(self._learner.state() | {"is_frozen": torch.tensor(self._is_frozen), "spent_s": spent_s})
        self._world.barrier()  # torchrun ends all processes when one has left

    def _elapsed_s(self) -> float:
        """Seconds of this training so far, those before it was stopped too; by the clock the same for all processes."""
        elapsed_s = self._spent_s + time.monotonic() - self._started_s
        if self._length.seconds is None:
            return elapsed_s
        return float(self._world.mean(torch.tensor(elapsed_s, dtype=torch.float64, device=self._device)))

    def _read(self, steps: list[dict[str, Tensor]], last: int) -> dict[str, float]:
        """The losses of the last of `steps`, which end with step number `last`: means over the processes.

        Raises: Diverged, naming the first step with a loss that is not finite, and each such loss.
        """
        values: dict[str, float] = {}
        for step, losses in enumerate(steps, last + 1 - len(steps)):
            means = self._world.mean(torch.stack(list(losses.values()))).tolist()
            values = dict(zip(losses, means, strict=True))
            if bad := [name for name, value in values.items() if not math.isfinite(value)]:
                named = ", ".join(f"{name} is {values[name]}" for name in bad)
                raise Diverged.with_advice(f"step {step}: {named}", self._settings)
        return values


def torch_device(name: str) -> torch.device:
    """Raises: TrainingError, if a GPU was asked for that is not there."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= gpus:
        found = f"torch finds {gpus or 'no'} GPU{'s' if gpus > 1 else ''}"
        allowed = ", ".join(["auto", "cpu", *(f"cuda:{number}" for number in range(gpus))])
        raise TrainingError(f"device: {name} was asked for, but {found}; allowed here: {allowed}")
    return device
