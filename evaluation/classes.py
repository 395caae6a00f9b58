"""Which classes a model draws, and how often, beside how often it should.

    predicted (N,) and reference_counts (K,) -> ClassHistogram

Shows what distances between features blur: a digit that is never drawn. Knows neither images nor who named them.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ClassHistogram:
    """counts: (K,) int64, of each class drawn. missing: the classes never drawn, in order.
    kl_nats: KL(drawn || reference), zero where the shares agree.
    """

    counts: npt.NDArray[np.int64]
    missing: list[int]
    kl_nats: float


def class_histogram(
    predicted: npt.NDArray[np.int64], reference_counts: npt.NDArray[np.int64] | npt.NDArray[np.float64]
) -> ClassHistogram:
    """Count the classes predicted (N,) of drawn images; reference_counts: (K,), or shares of any sum.

    Raises: ValueError, if there is no prediction, one is none of 0 to K - 1, or a class is not in the reference.
    Source: Metz et al. 2017, section 3.3.1: modes covered, and KL divergence, of a thousand stacked digits.
    """
    if reference_counts.ndim != 1 or not len(reference_counts):
        raise ValueError(f"classes: got reference counts of shape {reference_counts.shape}, expected (K,)")
    absent = np.flatnonzero(~(np.isfinite(reference_counts) & (reference_counts > 0)))
    if len(absent):
        raise ValueError(f"classes: every reference count must be above 0; those of {absent[:10].tolist()} are not")
    if predicted.ndim != 1 or not len(predicted) or not np.issubdtype(predicted.dtype, np.integer):
        raise ValueError(
            f"classes: got {predicted.dtype} {predicted.shape} predictions, expected int64 (N,) with N > 0"
        )
    classes = len(reference_counts)
    if predicted.min() < 0 or predicted.max() >= classes:
        raise ValueError(f"classes: got {predicted.min()} to {predicted.max()}, expected 0 to {classes - 1}")
    counts = np.bincount(predicted, minlength=classes).astype(np.int64)
    drawn = counts > 0
    shares, expected = counts / len(predicted), reference_counts / reference_counts.sum(dtype=np.float64)
    kl_nats = float((shares[drawn] * np.log(shares[drawn] / expected[drawn])).sum())
    return ClassHistogram(counts, np.flatnonzero(~drawn).tolist(), max(0.0, kl_nats))
