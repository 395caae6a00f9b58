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


class Sampler:
    """One bit generator that is moved from image to image by its state; for one thread at a time.

    A new generator costs 20 us, moving one 1 us.
    """

    def __init__(self) -> None:
        self._bits = np.random.Philox(key=np.uint64(0))
        self._generator = np.random.Generator(self._bits)
        # Assigned anew for each image: it says that nothing of the counter's block was used yet.
        self._start = self._bits.state
        self._key = self._start["state"]["key"] = np.zeros(2, np.uint64)
        self._counter = self._start["state"]["counter"] = np.zeros(4, np.uint64)

    def sample(
        self, seed: int, first_index: int, count: int, noise_dim: int, number_of_labels: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Noise and labels of images first_index to first_index + count - 1 of `seed`.

        Returns noise: (N, noise_dim) float32, and labels: (N,) int64, of length 0 if `number_of_labels` is 0.
        """
        noise = np.empty((count, noise_dim), np.float32)
        labels = np.empty(count if number_of_labels else 0, np.int64)
        self._key[0] = seed
        for row in range(count):
            self._counter[2] = first_index + row
            self._bits.state = self._start
            self._generator.standard_normal(out=noise[row], dtype=np.float32)
            if number_of_labels:
                labels[row] = self._generator.integers(number_of_labels)
        return noise, labels


def truncate(noise: npt.NDArray[np.float32], truncated_dim: int, truncation: float) -> None:
    """Multiply the first entries of noise (N, noise_dim) by `truncation`, in place."""
    noise[:, :truncated_dim] *= np.float32(truncation)
