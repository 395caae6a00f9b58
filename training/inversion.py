"""An encoder for a finished GAN: E learns to invert its generator, which stays as it is.

    sample     z ~ N(0, I) -> G -> x -> E -> Gaussian: how likely it makes z, which is known
    picture    x -> E -> mean -> G -> x': squared error of pixels, as its z is not

Samples alone would teach nothing of pictures that G does not draw, pictures alone would find latents that no sample has. The
variance that E tells is learned of samples: how far z lies from the mean, for an image like this one.
Source: Zhu et al. 2020, section 3.1: for pictures the domain-guided encoder, without its perceptual loss and discriminator; for
samples the encoder that it is compared with.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from evaluation.reconstruction import psnr_db
from training.batch import Batch
from training.data import ImageSet, pixels_to_bytes
from training.errors import DataError, RunFolderError, TrainingError
from training.families import names_where
from training.model import Model
from training.record import Record, is_finished, read_record, standing
from training.schedule import Phase
from training.settings import TrainSettings

if TYPE_CHECKING:
    from training.learner import Learner

PIXEL_WEIGHT = 10.0
"""Of the mean squared error of pixels in [-1, 1], beside nats of an entry of the latent; others are in docs/experiments.md."""

WATCHED = ("sheet_every", "checkpoint_every", "tensorboard", "threads", "device", "precision")
"""Settings of what is written while a training runs, and of the machine."""

OWN = ("out", "encoder_for", "images", "minutes", "batch", "learning_rate", "ema_images", "keep_best", *WATCHED)
"""Settings that an encoder's training has of its own; all others are by default the generator's."""

OF_DATA = ("data", "range", "split", "mirror", "skip_broken", "cache")
"""Of the others those that may be given."""

BATCH = 250


def taken_over(run: Path) -> dict[str, Any]:
    """The settings, by name, that the training of an encoder for the GAN in `run` has of that.

    Raises: RunFolderError, TrainingError, if it is not a finished GAN without an encoder.
    """
    model, record = _finished(run)
    if model.encoder:
        why = "learned for it already" if model.is_inverted else f"learned with it, as in any {model.family}"
        allowed = names_where(lambda each: not each.has_encoder)
        raise TrainingError(f"encoder_for: {run} has an encoder, {why}; allowed is a finished run of a {allowed}")
    return record.settings.model_dump(exclude=set(OWN)) | {"size": model.architecture.size}


def finished_model(settings: TrainSettings, images: ImageSet) -> Model:
    """The model that an encoder is learned for, from `images`.

    Raises: RunFolderError, TrainingError, as `taken_over`, or if settings are not those of its networks; DataError, if it does
    not draw such images.
    """
    run = settings.encoder_for
    assert run is not None, "asked of an encoder's training"
    for name, own in taken_over(run).items():
        if name not in OF_DATA and getattr(settings, name) != own:
            raise TrainingError(f"{name}: got {getattr(settings, name)} with encoder_for {run}; allowed is its {own}")
    model, _ = _finished(run)
    shape = model.architecture
    drawn = (shape.size, shape.size, shape.channels)
    if images.shape != drawn:
        raise DataError(f"data: {settings.data} has images of {images.shape}, {run} draws {drawn}")
    if model.label_names and images.label_names != model.label_names:
        raise DataError(
            f"data: {settings.data} has the classes {', '.join(images.label_names)[:100]}, {run} draws "
            f"{', '.join(model.label_names)[:100]}"
        )
    return model


def _finished(run: Path) -> tuple[Model, Record]:
    """Raises: RunFolderError, if the training is not at its end."""
    record = read_record(run)
    if not is_finished(run):
        raise RunFolderError(f"{run} is not a finished run: {standing(run, record.settings)}")
    return Model.load(run), record


def inversion_step(learner: "Learner", batch: Batch, phase: Phase) -> dict[str, Tensor]:
    """A step of E, by as many samples as real images."""
    model, count = learner.model, len(batch)
    assert model.encoder is not None, "it learns"
    latents = batch.prior_noise
    with learner.precision():
        with torch.no_grad():
            drawn = model.generate(latents, batch.label)
        label = None if batch.label is None else batch.label.repeat(2)
        mean, log_variance = model.encoder(torch.cat([drawn.float(), batch.real]), label)
        rebuilt = model.generator(mean[count:], batch.label)
    log_variance, away = log_variance[:count].float(), latents - mean[:count].float()
    losses = {
        "latent": 0.5 * (away.square() * (-log_variance).exp() + log_variance).mean(),
        "pixels": (rebuilt.float() - batch.real).square().mean(),
    }
    learner.descend(learner.g_optimiser, losses["latent"] + PIXEL_WEIGHT * losses["pixels"])
    return losses


@torch.inference_mode()
def reconstruction_psnr_db(model: Model, images: ImageSet) -> float:
    """Of `images` and the decoded means of their latents."""
    assert model.encoder is not None, "it has learned"
    device = model.variance.device
    rebuilt = []
    for start in range(0, len(images), BATCH):
        rows = np.arange(start, min(start + BATCH, len(images)))
        classes = images.classes(rows) if model.label_names else None
        label = None if classes is None else classes.to(device)
        mean, _ = model.encoder(images.pixels(rows).to(device), label)
        rebuilt.append(pixels_to_bytes(model.generator(mean, label)))
    return psnr_db(images.images, np.concatenate(rebuilt))
