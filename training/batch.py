"""What one step is given: real images and every random number that it needs.

    (settings, step) -> a generator of its own -> Batch

Nothing but the seed and the step's number decides a batch, so a training that is continued draws what it would have drawn,
and each of several processes draws the whole of it and takes its rows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.augment import Augmentation, mirror
from training.data import ImageSet
from training.parallel import World
from training.settings import TrainSettings

FEATURES_COLOUR = 0.5
"""How much of DiffAugment's changes of colour a D on features is shown: by all of them, colours would mean nothing to it."""


@dataclass(frozen=True)
class Batch:
    """real: (N, C, H, W) float32 in [-1, 1]. label: (N,) int64, if conditional.

    posterior_noise: (N, Z). prior_noise: (N, noise_dim). real_augmentation, fake_augmentation: what D sees of them.
    """

    real: Tensor
    label: Tensor | None
    posterior_noise: Tensor
    prior_noise: Tensor
    real_augmentation: Augmentation | None
    fake_augmentation: Augmentation | None

    def __len__(self) -> int:
        return len(self.real)

    def __getitem__(self, rows: slice) -> "Batch":
        return Batch(
            self.real[rows],
            None if self.label is None else self.label[rows],
            self.posterior_noise[rows],
            self.prior_noise[rows],
            None if self.real_augmentation is None else self.real_augmentation[rows],
            None if self.fake_augmentation is None else self.fake_augmentation[rows],
        )


def draw_batch(
    settings: TrainSettings,
    step: int,
    images: ImageSet,
    rows: npt.NDArray[np.int64],
    latent_dim: int,
    noise_dim: int,
    device: torch.device,
    world: World,
) -> Batch:
    """The part of batch number `step` that is this process's; rows: (batch,) of `images`, of all processes."""
    own = world.rows(len(rows))
    draw = torch.Generator().manual_seed(_seed(settings.seed, step))
    posterior_noise = torch.randn(len(rows), latent_dim, generator=draw)[own]
    prior_noise = torch.randn(len(rows), noise_dim, generator=draw)[own]
    real = images.pixels(rows[own])
    if settings.mirror:
        real = mirror(real, torch.rand(len(rows), generator=draw)[own] < 0.5)
    label = images.classes(rows[own]) if settings.conditional else None
    augmentations: list[Augmentation | None] = [None, None]
    if settings.diffaugment or settings.adversarial == "features":
        colour, repeats_edge = (FEATURES_COLOUR, True) if settings.adversarial == "features" else (1.0, False)
        augmentations = [
            Augmentation.draw(len(rows), real.shape[-1], draw, colour, repeats_edge)[own] for _ in range(2)
        ]
    return Batch(
        real.to(device, memory_format=torch.channels_last),
        None if label is None else label.to(device),
        posterior_noise.to(device),
        prior_noise.to(device),
        *augmentations,
    )


def _seed(seed: int, step: int) -> int:
    """A seed for torch that no other (seed, step) of a run shares."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
