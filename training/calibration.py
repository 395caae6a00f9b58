"""Batch norms' means and variances of averaged weights, which no training step ever ran with.

    averaged model, images -> E over images; both decoders over maps of images and samples -> running statistics

Decided by weights, images and seed, so that a training that was continued, and each of several processes, finds the same.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from training.architecture import MapArchitecture
from training.code_prior import CodePrior
from training.data import ImageSet
from training.map_networks import ImageCodeEncoder
from training.model import Model

LATENTS = 2_000
"""Images and latents that statistics are taken over."""

BATCH = 100


@torch.no_grad()
def calibrate(model: Model, images: ImageSet, seed: int) -> None:
    """Set the running statistics of `model`, in evaluation mode before and after; one without maps has none of its own."""
    if not isinstance(model.architecture, MapArchitecture):
        return
    draw = torch.Generator().manual_seed(seed)
    encoders = [each for each in (model.encoder, getattr(model.prior, "encoder", None)) if each is not None]
    decoders = [each for each in (model.generator, getattr(model.prior, "decoder", None)) if each is not None]
    if model.is_inverted:
        decoders = []  # final
    for networks in (encoders, decoders):  # decoders see what final encoders give
        norms = [each for network in networks for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # of all batches alike
            norm.train()
        for start in range(0, LATENTS, BATCH):
            rows = np.arange(start, start + BATCH) % len(images)
            model.generator(*_inputs(model, images, rows, draw))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def _inputs(
    model: Model, images: ImageSet, rows: npt.NDArray[np.int64], draw: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Latents and labels of the generator: half of them maps of images, the others samples, of a GAN all.

    Before there is a mixture, codes of images take the samples' place.
    """
    device = model.variance.device
    noise = torch.randn(len(rows), model.noise_dim, generator=draw).to(device)
    classes = images.classes(rows) if model.label_names else None
    label = None if classes is None else classes.to(device)
    if model.encoder is None:
        return noise, label
    pixels = images.pixels(rows).to(device, memory_format=torch.channels_last)
    half = len(rows) // 2
    if isinstance(model.encoder, ImageCodeEncoder):  # which learned by samples too
        pixels[half:] = model.generate(noise[half:], None if label is None else label[half:])
        return model.encoder(pixels, label)[0], label
    assert isinstance(model.prior, CodePrior), "of maps"
    mean, log_variance = model.encoder(pixels)
    maps = mean + torch.randn(mean.shape, generator=draw).to(device) * (0.5 * log_variance).exp()
    code_mean, code_log_variance = model.prior.encoder(mean)
    of_images = code_mean + noise[:, : model.code_dim] * (0.5 * code_log_variance).exp()
    codes = of_images if model.mixture is None else model.prior.code(noise, label)
    return torch.cat([maps[:half], model.prior.decoder(codes[half:], None if label is None else label[half:])]), label
