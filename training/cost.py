"""What a training would cost, found by a few of its steps and nothing written: `figment train --dry-run`.

    settings -> images, networks -> parameters, multiplications; some steps of each phase -> time

A person is told, nobody else: the figures are of one machine and of a few steps.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from training import threads
from training.batch import draw_batch
from training.data import ImageSet
from training.defaults import resolved
from training.learner import Learner
from training.length import Length
from training.model import Model
from training.parallel import ALONE
from training.schedule import Phase, phase_name
from training.settings import TrainSettings
from training.trainer import learner, load_images, torch_device

WARM_STEPS = 3
STEPS = 10


@dataclass(frozen=True)
class Network:
    """parameters: their number. mflop: millions of floating point operations of one image, forward."""

    parameters: int
    mflop: float


def networks(model: Model, discriminator: nn.Module | None) -> dict[str, Network]:
    """The networks of a training by name, on the CPU; they are in evaluation mode after it."""
    shape, label = model.architecture, torch.zeros(1, dtype=torch.int64) if model.label_names else None
    image = torch.zeros(1, shape.channels, shape.size, shape.size)
    found = {"generator": _network(model.generator, torch.zeros(1, model.latent_dim), label)}
    if model.encoder:
        found["encoder"] = _network(model.encoder, image, label)
    if discriminator:
        found["discriminator"] = _network(discriminator, image, label)
    return found


def estimate(settings: TrainSettings) -> str:
    """What `settings` would take on this machine, in a few lines for a person.

    Raises: DataError, TrainingError.
    """
    seen, held_out = load_images(settings)
    settings = resolved(settings, seen)
    device = torch_device(settings.device)
    learning = learner(settings, seen, device)
    size, _, channels = seen.shape
    lines = [
        f"images: {len(seen)} to learn from, {len(held_out)} held out, {size}x{size}, {'grey' if channels == 1 else 'RGB'}"
    ]
    judged = f", adversarial: {settings.adversarial}" if learning.discriminator else ""
    lines.append(f"latent: {settings.latent}{judged}")
    on_cpu = learner(settings, seen, torch.device("cpu"))
    for name, network in networks(on_cpu.model, on_cpu.discriminator).items():
        lines.append(f"{name}: {network.parameters:,} parameters, {network.mflop:.2f} MFLOP an image")

    length, steps, total_s = Length(settings), 0, 0.0
    for is_adversarial in (False, True):
        if length.share(is_adversarial):
            step = _step(settings, seen, learning, is_adversarial, device)
            by = ""
            if settings.threads == "auto":
                among = threads.numbers(length, is_adversarial, device, ALONE)
                number = threads.quickest(step, among) if len(among) > 1 else 1
                torch.set_num_threads(number)
                by = f" by {number} thread{'s' if number > 1 else ''}"
            step_s = _step_s(step, device)
            phase_steps = length.steps(is_adversarial, step_s)
            steps, total_s = steps + phase_steps, total_s + phase_steps * step_s
            rate = settings.batch / step_s
            name = "encoder" if learning.model.is_inverted else phase_name(is_adversarial)
            lines.append(f"{name} phase: {phase_steps:,} steps of {settings.batch} images, {rate:.0f} images/s{by}")
    images = settings.images if settings.minutes is None else steps * settings.batch
    lines.append(f"{images:,} images on {device}: about {total_s / 60:.1f} minutes; nothing was written")
    return "\n".join(lines)


def _network(network: nn.Module, *inputs: torch.Tensor | None) -> Network:
    network.eval()  # batch norms of the baseline want more than one image to learn from
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*inputs)
    return Network(sum(weight.numel() for weight in network.parameters()), counter.get_total_flops() / 1e6)


def _step(
    settings: TrainSettings, images: ImageSet, learning: Learner, is_adversarial: bool, device: torch.device
) -> Callable[[], object]:
    """Takes a step of a phase, another one whenever it is called."""
    if is_adversarial and learning.family.has_encoder:
        learning.freeze_encoder(None)
    batches, steps, model = images.batches(settings.batch, settings.seed), count(), learning.model
    return lambda: learning.learn(
        draw_batch(settings, next(steps), images, next(batches), model.latent_dim, model.noise_dim, device, ALONE),
        Phase(is_adversarial, 0.0),
    )


def _step_s(step: Callable[[], object], device: torch.device) -> float:
    """Seconds of a step, once the first few are past."""
    for number in range(WARM_STEPS + STEPS):
        if number == WARM_STEPS:
            _wait(device)
            started_s = time.monotonic()
        step()
    _wait(device)
    return (time.monotonic() - started_s) / STEPS


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
