"""What is taken from q(z|x) over the training images once E is final: the prior, and how far decoded pixels lie.

    averaged model, images -> mean, log-variance -> draws -> mixture, variance

Decided by the weights, the images and the seed.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.code_prior import CodePrior, Mixture
from training.data import ImageSet
from training.errors import Diverged
from training.likelihood import optimal_variance
from training.model import Model
from training.prior import MAX_LATENTS, MIN_LATENTS, LabelledMixturePrior, MixturePrior
from training.settings import TrainSettings

VARIANCE_IMAGES = 5_000
"""Images that the variance of a Gaussian likelihood is measured on."""

Rows = npt.NDArray[np.int64]


@torch.no_grad()
def fit_mixture(model: Model, images: ImageSet, settings: TrainSettings) -> Mixture | None:
    """The mixture of `model`, over latents or codes, on its device; None where the prior is N(0, I).

    Raises: Diverged, if latents are not finite.
    """
    if settings.prior == "normal":
        return None
    draw = torch.Generator().manual_seed(settings.seed)
    count = min(len(images), MAX_LATENTS)
    repeats = max(1, MIN_LATENTS // count)
    latents, labels = [], []
    for mean, log_variance, rows in _encoded(model, images, count, settings):
        if isinstance(model.prior, CodePrior):
            mean, log_variance = (each.cpu() for each in model.prior.encoder(mean.to(model.variance.device)))
        noise = torch.randn(repeats, *mean.shape, generator=draw)
        latents.append((mean + noise * (0.5 * log_variance).exp()).flatten(0, 1))
        labels.append(images.classes(rows))
    found = torch.cat(latents)
    if not found.isfinite().all():
        raise Diverged.with_advice("prior: latents of training images are not finite", settings)
    mixture: Mixture
    if isinstance(model.prior, CodePrior) and model.label_names:
        own = torch.cat([each.repeat(repeats) for each in labels if each is not None])
        mixture = LabelledMixturePrior.fit(found, own, len(images), len(model.label_names), settings.seed)
    else:
        mixture = MixturePrior.fit(found, len(images), settings.seed)
    return mixture.to(model.variance.device)


@torch.no_grad()
def pixel_variance(model: Model, images: ImageSet, settings: TrainSettings) -> Tensor:
    """Of pixels around the reconstructions from draws of q(z|x): a scalar on the CPU."""
    device = model.variance.device
    draw = torch.Generator().manual_seed(settings.seed)
    squares = []
    for mean, log_variance, rows in _encoded(model, images, min(len(images), VARIANCE_IMAGES), settings):
        latents = mean + torch.randn(mean.shape, generator=draw) * (0.5 * log_variance).exp()
        rebuilt = model.generator(latents.to(device), _label(images, rows, settings, device)).cpu()
        squares += [optimal_variance(images.pixels(rows), rebuilt)] * len(mean)
    return torch.stack(squares).mean()


def _encoded(
    model: Model, images: ImageSet, count: int, settings: TrainSettings
) -> Iterator[tuple[Tensor, Tensor, Rows]]:
    """Mean and log-variance (n, Z), on the CPU, of the first `count` images, and their rows."""
    assert model.encoder is not None, "asked of autoencoders only"
    device = model.variance.device
    for start in range(0, count, settings.batch):
        rows = np.arange(start, min(start + settings.batch, count))
        label = _label(images, rows, settings, device)
        mean, log_variance = model.encoder(images.pixels(rows).to(device), label)
        yield mean.cpu(), log_variance.cpu(), rows


def _label(images: ImageSet, rows: Rows, settings: TrainSettings, device: torch.device) -> Tensor | None:
    label = images.classes(rows) if settings.conditional else None
    return None if label is None else label.to(device)
