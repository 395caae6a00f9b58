"""The Frechet distance between two sets of features, each taken as one Gaussian.

    features (N, D) batch by batch -> Moments -> frechet_distance

Zero where mean and covariance agree, whatever the features are; how far is far, depends on them. Float64 throughout.
Knows nothing of images.
"""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Moments:
    """Count, mean and covariance of all the rows added so far; the rows are not kept."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean: Array = np.zeros(dim)
        self._scatter: Array = np.zeros((dim, dim))
        self._root: Array | None = None

    def add(self, features: npt.NDArray[np.floating]) -> None:
        """Take in a batch of features: (N, D) float32 or float64.

        Raises: ValueError, if they have another shape or are not finite.
        Source: Chan, Golub & LeVeque 1979, eq. 2.1: the scatter of two sets together, without cancellation.
        """
        dim = len(self.mean)
        if features.ndim != 2 or features.shape[1] != dim:
            raise ValueError(f"features: got an array of shape {features.shape}, expected (N, {dim})")
        if not np.isfinite(features).all():
            raise ValueError(f"features: {np.count_nonzero(~np.isfinite(features))} values are not finite numbers")
        if not len(features):
            return
        rows: Array = features.astype(np.float64)
        mean = rows.mean(0)
        rows -= mean
        step = mean - self.mean
        share = len(rows) / (self.count + len(rows))
        self._scatter += rows.T @ rows + self.count * share * np.outer(step, step)
        self.mean = self.mean + share * step
        self.count += len(rows)
        self._root = None

    @property
    def covariance(self) -> Array:
        """(D, D), unbiased.

        Raises: ValueError, if there are fewer than two rows.
        """
        if self.count < 2:
            raise ValueError(f"features: got {self.count} rows, a covariance needs at least 2")
        return self._scatter / (self.count - 1)

    @property
    def root(self) -> Array:
        """The symmetric square root of the covariance (D, D); kept until more rows are added. Raises: ValueError."""
        if self._root is None:
            self._root = _root(self.covariance)
        return self._root


def frechet_distance(a: Moments, b: Moments) -> float:
    """|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    Raises: ValueError, if the features have different numbers of entries, or one set has fewer than two rows.
    Source: Heusel et al. 2017, eq. 6; Dowson & Landau 1982. With symmetric roots A and B of the covariances, the trace
    of (C_a C_b)^(1/2) is the sum of the singular values of A B: real, and accurate where a covariance is singular.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features: cannot compare {len(a.mean)} entries with {len(b.mean)}")
    shared = np.linalg.norm(a.root @ b.root, "nuc")
    distance = np.square(a.mean - b.mean).sum() + np.trace(a.covariance) + np.trace(b.covariance) - 2 * shared
    return max(0.0, float(distance))


def _root(covariance: Array) -> Array:
    """The symmetric square root; what rounding has made negative counts as zero."""
    variances, axes = np.linalg.eigh(covariance)
    root: Array = (axes * np.sqrt(variances.clip(0))) @ axes.T
    return root
