"""A model under evaluation: as much of a generative model as quality figures need.

    noise -> latent() -> latents -> decode() -> images -> encode() -> mean, log-variance

Whether a network or a served graph stands behind it, its implementation knows.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64] | None
Floats = npt.NDArray[np.float32]


class EvaluatedModel(Protocol):
    """A model under evaluation. Images are (N, H, W, C) uint8; labels (N,) int64, None for an unconditional model."""

    name: str
    family: str
    noise_dim: int
    label_names: list[str]
    has_encoder: bool

    def latent(self, noise: Floats, labels: Labels) -> Floats:
        """noise: (N, noise_dim). Returns draws from the prior: (N, Z)."""
        ...

    def decode(self, latents: Floats, labels: Labels) -> Images:
        """latents: (N, Z). Returns images (N, H, W, C)."""
        ...

    def encode(self, images: Images, labels: Labels) -> tuple[Floats, Floats]:
        """Returns mean and log-variance of q(z|x): (N, Z) each. Called only where there is an encoder."""
        ...

    def bound(self, images: Images, labels: Labels, draws: int, seed: int) -> npt.NDArray[np.float64] | None:
        """Nats (N,) by importance sampling; None where the model has no likelihood."""
        ...
