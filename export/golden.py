"""The noise of an image, by its definition.

    (seed, index) -> noise (noise_dim,), label

Written for plainness; the server has a fast form of the same, and a test holds the two together.
"""

import numpy as np
import numpy.typing as npt

GOLDEN_SEED = 20260101
"""Seed of the golden images in every bundle, which a server draws again to check itself."""


def noise_of(seed: int, index: int, noise_dim: int, labels: int) -> tuple[npt.NDArray[np.float32], int | None]:
    """Noise (noise_dim,) float32 of image `index` of `seed`, and its label when the model has `labels` classes."""
    bits = np.random.Philox(key=np.uint64(seed), counter=np.array([0, 0, index, 0], np.uint64))
    generator = np.random.Generator(bits)
    noise = generator.standard_normal(noise_dim, dtype=np.float32)
    return noise, int(generator.integers(labels)) if labels else None


def golden_inputs(
    count: int, noise_dim: int, labels: int, seed: int = GOLDEN_SEED
) -> dict[str, npt.NDArray[np.generic]]:
    """Inputs of a generator graph for images 0 to count - 1 of `seed`: noise (N, noise_dim) [, label (N,)]."""
    draws = [noise_of(seed, index, noise_dim, labels) for index in range(count)]
    inputs: dict[str, npt.NDArray[np.generic]] = {"noise": np.stack([noise for noise, _ in draws])}
    if labels:
        inputs["label"] = np.array([label for _, label in draws], np.int64)
    return inputs
