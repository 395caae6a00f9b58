"""The training loop: one for all families.

    settings -> images, networks -> [draw -> D step -> E and G step -> average] ... -> prior -> run folder

Every random draw of a step comes from a generator seeded by (seed, step), so what a step does depends on nothing but
its number and the weights. Knows nothing of export or serving.
"""

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from training.data import ImageSet
from training.errors import DataError, Diverged, TrainingError
from training.model import Model, ModelFacts, average_into
from training.networks import WIDTHS, Architecture, Discriminator
from training.objective import (
    WEIGHTS,
    adaptive_weight,
    adversarial_loss,
    gradient_penalties,
    kl_divergence,
    reconstruction_nll,
)
from training.prior import MixturePrior
from training.run import Run
from training.settings import TrainSettings
from training.sources import load

REPORT_STEPS = 20
"""Steps between two reports: losses are read back from the device only then."""

KL_WARMUP = 0.1
"""Share of the training over which the weight of the KL term grows from 0 to 1 (Bowman et al. 2016)."""

EMA_IMAGES = 5_000
"""Half-life of the averaged weights in images; at most a twentieth of the images seen so far (Karras et al. 2020)."""

ADVERSARIAL_SHARE = 0.5
"""In a hybrid: norm of the adversarial gradient at G's last layer, as a share of the reconstruction's."""

PRIOR_FITS = 4
"""Fits of a hybrid's prior over its training, evenly spaced, the last at its end; N(0, I) serves before the first."""

PRIOR_LATENTS = 6_000
"""Draws from the aggregate posterior that the prior is fitted to."""


Placed = TypeVar("Placed", bound=nn.Module)


@dataclass(frozen=True)
class Progress:
    """Where a run stands: `images` shown of `total`."""

    images: int
    total: int


def train(settings: TrainSettings, report: Callable[[Progress], None] = lambda progress: None) -> Model:
    """Train one model, write its run folder, and return the averaged model.

    Raises: DataError, RunFolderError, Diverged.
    """
    torch.set_num_threads(settings.threads)
    device = _device(settings.device)
    seen, held_out = load(settings.data, settings.size, settings.skip_broken).split(settings.held_out, settings.seed)
    if settings.conditional and not seen.label_names:
        raise DataError(f"conditional: {settings.data} has no labels; they are subfolders' names or a column 'label'")
    run = Run.create(settings)

    # Networks: built from the run's seed, without touching the process's own random state.
    weights = WEIGHTS[settings.family]
    architecture = _architecture(settings, seen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        labels = seen.label_names if settings.conditional else []
        model = _placed(Model(ModelFacts(settings.family, architecture, labels, 0)), device)
        discriminator = _placed(Discriminator(architecture), device) if weights.adversarial else None
    average = deepcopy(model).eval().requires_grad_(False)
    generator_weights = list(model.generator.parameters())
    last = next(row for row, weight in enumerate(generator_weights) if weight is model.generator.out.weight)
    encoder_weights = list(model.encoder.parameters()) if model.encoder else []
    g_optimiser = _adam([*encoder_weights, *generator_weights], settings)
    d_optimiser = _adam(list(discriminator.parameters()), settings) if discriminator else None

    total_steps = math.ceil(settings.images / settings.batch)
    prior_steps = {total_steps * fit // PRIOR_FITS for fit in range(1, PRIOR_FITS)} if weights.adversarial else set()
    batches = seen.batches(settings.batch, settings.seed)
    started_s = time.monotonic()
    for step in range(total_steps):
        progress = step / total_steps
        for optimiser in filter(None, (g_optimiser, d_optimiser)):
            optimiser.param_groups[0]["lr"] = settings.learning_rate * _cosine(progress)
        losses: dict[str, Tensor] = {}

        # Prior: D is to judge a hybrid by such samples as it will be asked for.
        if model.encoder and step in prior_steps:
            model.prior = average.prior = _fit_prior(model, seen, settings)

        # Draw: real images and labels, noise for the posterior and for the prior.
        rows = next(batches)
        draw = torch.Generator().manual_seed(_step_seed(settings.seed, step))
        posterior_noise = torch.randn(settings.batch, settings.latent_dim, generator=draw).to(device)
        prior_noise = torch.randn(settings.batch, model.noise_dim, generator=draw).to(device)
        real = seen.pixels(rows).to(device)
        label = _on(device, seen.classes(rows) if settings.conditional else None)

        # Forward: reconstructions (E's part), and the images that D is shown: for a GAN samples of the prior, for a
        # hybrid reconstructions in the first half of the batch and samples in the second.
        likelihood: Tensor | None = None
        shown = settings.batch
        if model.encoder:
            mean, log_variance = model.encoder(real, label)
            reconstructions = model.generator(mean + posterior_noise * (0.5 * log_variance).exp(), label)
            losses["reconstruction"] = reconstruction_nll(real, reconstructions)
            losses["kl"] = kl_divergence(mean, log_variance)
            warmth = min(1.0, progress / KL_WARMUP)
            likelihood = weights.reconstruction * losses["reconstruction"] + weights.kl * warmth * losses["kl"]
            shown = settings.batch // 2
        if discriminator:
            fake = model.generate(prior_noise[-shown:], None if label is None else label[-shown:])
            if model.encoder:
                fake = torch.cat([reconstructions[:-shown], fake])

        # Discriminator: relativistic pairing loss, R1 and R2.
        if discriminator and d_optimiser:
            both = torch.cat([real, fake.detach()]).requires_grad_()
            both_logits = discriminator(both, None if label is None else label.repeat(2))
            real_logit, fake_logit = both_logits.chunk(2)
            losses["d_adversarial"] = adversarial_loss(winner=real_logit, loser=fake_logit)
            losses["r1"], losses["r2"] = gradient_penalties(both, both_logits)
            penalty = settings.gamma * (losses["r1"] + losses["r2"])
            d_optimiser.zero_grad()
            torch.autograd.backward(losses["d_adversarial"] + penalty)
            d_optimiser.step()

        # Encoder and generator: the adversarial gradient is taken with respect to G's weights alone, so none of it
        # reaches E; it joins the likelihood's by the weight that the two norms at G's last layer ask for.
        g_optimiser.zero_grad()
        if likelihood is not None:
            torch.autograd.backward(likelihood, retain_graph=discriminator is not None)
        if discriminator:
            with torch.no_grad():
                real_logit = discriminator(real, label)
            losses["g_adversarial"] = adversarial_loss(winner=discriminator(fake, label), loser=real_logit)
            gradients = torch.autograd.grad(losses["g_adversarial"], generator_weights)
            factor: float | Tensor = weights.adversarial
            if likelihood is not None:
                losses["adversarial_weight"] = adaptive_weight(_grad(generator_weights[last]), gradients[last])
                factor = factor * ADVERSARIAL_SHARE * losses["adversarial_weight"]
            for parameter, gradient in zip(generator_weights, gradients, strict=True):
                parameter.grad = factor * gradient + (0 if parameter.grad is None else parameter.grad)
        g_optimiser.step()

        # Average: what is kept is the exponential moving average of E and G.
        images = (step + 1) * settings.batch
        average_into(average, model, decay=0.5 ** (settings.batch / min(EMA_IMAGES, max(1.0, images / 20))))

        # Report: read the losses back, stop if one went bad, draw a sheet when one is due.
        if (step + 1) % REPORT_STEPS == 0 or step + 1 == total_steps:
            values = {name: value.item() for name, value in losses.items()}
            if bad := [name for name, value in values.items() if not math.isfinite(value)]:
                raise Diverged(f"step {step}: {', '.join(f'{name} is {values[name]}' for name in bad)}")
            run.write_stats(images, images / (time.monotonic() - started_s), values)
            run.draw_sheets_if_due(images, average, held_out)
            report(Progress(min(images, settings.images), settings.images))

    average = average.to("cpu")
    if average.encoder:
        average.prior = _fit_prior(average, seen, settings)
    run.finish(average, seen, held_out)
    return average


def _architecture(settings: TrainSettings, images: ImageSet) -> Architecture:
    _, size, _, channels = images.images.shape
    labels = len(images.label_names) if settings.conditional else 0
    return Architecture(size, channels, settings.latent_dim, WIDTHS[settings.preset], labels)


def _placed(module: Placed, device: torch.device) -> Placed:
    """On the device, convolution weights in NHWC order: on a CPU core a third faster in both directions."""
    placed: Placed = module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def _adam(weights: list[nn.Parameter], settings: TrainSettings) -> torch.optim.Adam:
    return torch.optim.Adam(weights, lr=settings.learning_rate, betas=(0.0, 0.99))


def _cosine(progress: float) -> float:
    """Factor of the learning rate: from 1 down to 0.1."""
    return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))


def _step_seed(seed: int, step: int) -> int:
    """A seed for torch that no other (seed, step) of a run shares."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError(f"device: {name} was asked for, but torch finds no GPU; allowed here: auto, cpu")
    return torch.device(name)


def _grad(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None, "the likelihood reaches every weight of G"
    return parameter.grad


@torch.no_grad()
def _fit_prior(model: Model, images: ImageSet, settings: TrainSettings) -> MixturePrior:
    """The mixture prior of `model`, on its device, fitted to draws from q(z|x) over training images."""
    assert model.encoder is not None, "a GAN's prior is N(0, I)"
    device = model.generator.out.weight.device
    draw = torch.Generator().manual_seed(settings.seed)
    repeats = max(1, PRIOR_LATENTS // len(images))
    latents = []
    for start in range(0, min(len(images), PRIOR_LATENTS), settings.batch):
        rows = slice(start, start + settings.batch)
        label = images.classes(rows) if settings.conditional else None
        mean, log_variance = model.encoder(images.pixels(rows).to(device), _on(device, label))
        noise = torch.randn(repeats, *mean.shape, generator=draw).to(device)
        latents.append((mean + noise * (0.5 * log_variance).exp()).flatten(0, 1))
    return MixturePrior.fit(torch.cat(latents).cpu(), settings.seed).to(device)


def _on(device: torch.device, label: Tensor | None) -> Tensor | None:
    return None if label is None else label.to(device)
