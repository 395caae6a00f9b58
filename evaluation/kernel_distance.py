"""The kernel distance between two sets of features: unbiased, so that it is about zero for two sets of one distribution.

    features (N, D), (M, D) -> polynomial kernel, block by block -> squared maximum mean discrepancy

A Frechet distance shrinks as more rows are drawn; this one does not. Below zero by chance. Knows nothing of images.
"""

import numpy as np
import numpy.typing as npt

BLOCK_VALUES = 2**22
"""Kernel values held at once."""

Rows = npt.NDArray[np.floating]


def kernel_distance(a: Rows, b: Rows) -> float:
    """The squared MMD between a (N, D) and b (M, D), by the kernel (x . y / D + 1)^3.

    Raises: ValueError, if the sets differ in D, or one has fewer than two rows.
    Source: Binkowski et al. 2018, section 4: the unbiased estimator over all pairs, without subsets.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features: got {a.shape} and {b.shape}, expected (N, D) and (M, D) with two rows or more")
    return _mean(a, a, own=True) + _mean(b, b, own=True) - 2 * _mean(a, b)


def _mean(a: Rows, b: Rows, own: bool = False) -> float:
    """Mean kernel value of all pairs; own: but those of a row with itself."""
    size = max(1, BLOCK_VALUES // len(b))
    total = 0.0
    for start in range(0, len(a), size):
        total += float(_kernel(a[start : start + size] @ b.T, a.shape[1]).sum(dtype=np.float64))
    if own:
        lengths = np.square(a).sum(1)
        total -= float(_kernel(lengths, a.shape[1]).sum(dtype=np.float64))
    return total / (len(a) * (len(b) - own))


def _kernel(products: Rows, dim: int) -> Rows:
    kernel: Rows = (products / dim + 1) ** 3
    return kernel
