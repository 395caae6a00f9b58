"""What is judged, and by what: a model as far as it can be judged, and real images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64] | None
Floats = npt.NDArray[np.float32]


class Subject(Protocol):
    """A model as far as it can be judged. Images are (N, H, W, C) uint8; labels (N,) int64, None on an unconditional one."""

    name: str
    family: str
    noise_dim: int
    label_names: list[str]
    has_encoder: bool

    def latent(self, noise: Floats, labels: Labels) -> Floats:
        """noise: (N, noise_dim). Returns draws from the prior: (N, Z)."""
        ...

    def decode(self, latents: Floats, labels: Labels) -> Images:
        """latents: (N, Z)."""
        ...

    def encode(self, images: Images, labels: Labels) -> tuple[Floats, Floats]:
        """Returns mean and log-variance of q(z|x): (N, Z) each. Asked only where there is an encoder."""
        ...

    def bound(self, images: Images, labels: Labels, draws: int, seed: int) -> npt.NDArray[np.float64] | None:
        """Nats (N,) by importance sampling; None where the subject knows no likelihood."""
        ...


@dataclass(frozen=True)
class Real:
    """Real images (N, H, W, C) uint8 and their labels (N,), None where there are none."""

    images: Images
    labels: Labels = None
    label_names: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.images)

    def some(self, count: int, seed: int) -> "Real":
        """`count` of the images, or all, in an order that `seed` decides."""
        rows = np.random.default_rng(seed).permutation(len(self))[:count]
        return Real(self.images[rows], None if self.labels is None else self.labels[rows], self.label_names)
