"""A training from its settings, or from its checkpoint, to its model.

    settings -> images, networks -> Training -> run folder

Knows nothing of export or serving.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from training import checkpoint
from training.adversarial import ADVERSARIAL
from training.architecture import PRESETS, Architecture, MapArchitecture
from training.data import ImageSet
from training.defaults import resolved
from training.errors import RunFolderError, TrainingError
from training.learner import Learner
from training.loop import Progress as Progress
from training.loop import Report, Training
from training.model import Model, ModelFacts
from training.parallel import ALONE, World, world
from training.record import is_finished, read_record, standing
from training.run import Run, check_free
from training.settings import TrainSettings
from training.sources import load

COLOUR_IMAGES = 1_000
"""Images of which networks begin with the mean colour."""


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
        training = _training(settings, seen, held_out, device, here)
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
        training = _training(settings, seen, held_out, device, here)
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
    """New networks for `images`. Raises: TrainingError."""
    settings = resolved(settings, images)
    torch.set_num_threads(1 if settings.threads == "auto" else settings.threads)
    here.check(settings.batch)
    if ADVERSARIAL[settings.adversarial].is_normalised and here.size > 1:
        raise TrainingError(
            f"adversarial: {settings.adversarial} takes batch norms of whole batches; allowed with one process"
        )
    colour = images.pixels(slice(0, COLOUR_IMAGES)).mean((0, 2, 3))
    return Learner(settings, model_facts(settings, images), device, here, colour)


def model_facts(settings: TrainSettings, images: ImageSet) -> ModelFacts:
    """What is true of a model that learns from `images`, by settings of which none is auto."""
    labels = images.label_names if settings.conditional else []
    size, _, channels = images.shape
    architecture: Architecture | MapArchitecture
    if settings.latent == "map":
        architecture = MapArchitecture.of(settings.preset, size, channels, len(labels))
    else:
        width, blocks = PRESETS[settings.preset]
        is_normalised = ADVERSARIAL[settings.adversarial].is_normalised
        architecture = Architecture(size, channels, settings.latent_dim, width, len(labels), blocks, is_normalised)
    return ModelFacts(settings.family, architecture, labels, 0, settings.likelihood)


def _training(settings: TrainSettings, seen: ImageSet, held_out: ImageSet, device: str, here: World) -> Training:
    where = torch_device(device)
    return Training(learner(settings, seen, where, here), seen, held_out, where, here)


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
