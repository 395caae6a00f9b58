"""The noise that images are drawn from.

    seed, first_index, count -> noise (N, noise_dim), labels (N,)

Image `index` of `seed` has its own Philox counter, so its noise depends on nothing else (design: reproducible images).
"""

import secrets

import numpy as np
import numpy.typing as npt

SEED_BITS = 53
"""Seeds that the server draws fit into a JavaScript number."""


def draw_seed() -> int:
    """A seed for a request that names none."""
    return secrets.randbits(SEED_BITS)


def sample(
    seed: int, first_index: int, count: int, noise_dim: int, number_of_labels: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Noise and labels of images first_index to first_index + count - 1 of `seed`.

    Returns noise: (N, noise_dim) float32, and labels: (N,) int64, of length 0 if `number_of_labels` is 0.
    """
    # One generator is moved from image to image by its state: five times cheaper than a new one each.
    bits = np.random.Philox(key=np.uint64(seed))
    generator = np.random.Generator(bits)
    state = bits.state
    counter = np.zeros(4, np.uint64)
    state["state"]["counter"] = counter
    noise = np.empty((count, noise_dim), np.float32)
    labels = np.empty(count if number_of_labels else 0, np.int64)
    for row in range(count):
        counter[2] = first_index + row
        bits.state = state
        generator.standard_normal(out=noise[row], dtype=np.float32)
        if number_of_labels:
            labels[row] = generator.integers(number_of_labels)
    return noise, labels


def truncate(noise: npt.NDArray[np.float32], latent_dim: int, truncation: float) -> None:
    """Multiply the latent's part of noise (N, noise_dim) by `truncation`, in place."""
    if truncation != 1:
        noise[:, :latent_dim] *= np.float32(truncation)
