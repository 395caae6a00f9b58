"""Precision, recall, density and coverage: how far two sets of features lie in each other's neighbourhoods.

    real (N, D), drawn (M, D) -> radii to each k-th neighbour -> Prdc

Each set stands for the balls around its rows that reach to the k-th nearest other row of the same set. Squared
distances are taken block by block in float32, so that 10,000 rows against 10,000 need some 60 MB beside a copy of the
features, and seconds. Knows nothing of images.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK_VALUES = 2**22
"""Distances held at once."""

Floats = npt.NDArray[np.floating]
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prdc:
    """Precision and recall lie in [0, 1] and count rows in the other set's balls; one outlier with its wide ball can
    lift them. Density, which may pass 1, counts balls, and coverage in [0, 1] the real balls that hold a drawn row:
    both trust the real set's balls alone. Two sets of one distribution have an expected density of 1 and coverage of
    nearly 1 - 2^-k.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Floats, drawn: Floats, k: int = 5) -> Prdc:
    """Compare real (N, D) with drawn (M, D) features, by balls that reach to the k-th neighbour.

    Raises: ValueError, if a set has k rows or fewer, the sets differ in D, or values are not finite.
    Source: Kynkaanniemi et al. 2019, eqs. 1 and 2; Naeem et al. 2020, section 3.
    """
    _check(real, drawn, k)
    centre = real.mean(0, dtype=np.float64)  # far from the origin, float32 would cancel
    a, b = ((rows - centre).astype(np.float32) for rows in (real, drawn))
    real_radii, drawn_radii = _radii(a, k), _radii(b, k)
    balls = np.zeros(len(b), np.int64)
    recalled = covered = 0
    for rows, distances in _distances(a, b):
        inside = distances <= real_radii[rows, None]
        balls += np.count_nonzero(inside, axis=0)
        covered += int(inside.any(1).sum())
        recalled += int((distances <= drawn_radii).any(1).sum())
    return Prdc(
        precision=float((balls > 0).mean()),
        recall=recalled / len(a),
        density=float(balls.mean() / k),
        coverage=covered / len(a),
    )


def _check(real: Floats, drawn: Floats, k: int) -> None:
    if real.ndim != 2 or drawn.ndim != 2 or real.shape[1] != drawn.shape[1]:
        raise ValueError(f"features: got arrays of shape {real.shape} and {drawn.shape}, expected (N, D) and (M, D)")
    if k < 1 or min(len(real), len(drawn)) <= k:
        raise ValueError(
            f"features: got {len(real)} real and {len(drawn)} drawn rows and k = {k}, expected k of at least 1 and "
            "more than k rows in each set"
        )
    if not (np.isfinite(real).all() and np.isfinite(drawn).all()):
        raise ValueError("features: some values are not finite numbers")


def _radii(rows: Rows, k: int) -> Rows:
    """The squared distance of each row (N, D) to its k-th nearest other row: (N,)."""
    radii = np.empty(len(rows), np.float32)
    for block, distances in _distances(rows, rows):
        distances[np.arange(len(distances)), np.arange(block.start, block.stop)] = np.inf
        distances.partition(k - 1, axis=1)
        radii[block] = distances[:, k - 1]
    return radii


def _distances(a: Rows, b: Rows) -> Iterator[tuple[slice, Rows]]:
    """Squared distances of some rows of a (N, D) to all of b (M, D), as (slice of a, (n, M)), until a is done."""
    lengths = np.square(b).sum(1)
    size = max(1, BLOCK_VALUES // len(b))
    for start in range(0, len(a), size):
        block = slice(start, min(start + size, len(a)))
        distances = a[block] @ b.T
        distances *= -2
        distances += lengths
        distances += np.square(a[block]).sum(1, keepdims=True)
        yield block, distances
