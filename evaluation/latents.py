"""What a latent space is good for: how much of it is used, what it tells of the classes, and how evenly it draws.

    posteriors -> active_units;   latents and labels -> probe_accuracy;   features along paths -> path_smoothness

Knows arrays alone: who encoded or drew them is the caller's.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

PROBE_ROWS = 10_000
"""Latents that a probe learns from, at most: seconds of one core for some ten classes."""

PROBE_STEPS = 200
"""Steps of L-BFGS of a probe, at most."""

Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PathSmoothness:
    """arc_chord_ratio: length of a path by the distance of its ends, 1 where features go straight from one to the other.
    largest_step_ratio: the largest step of a path by its mean step, 1 where all are equal. Medians over the paths.
    """

    arc_chord_ratio: float
    largest_step_ratio: float


def active_units(mean: Floats, log_variance: Floats, share: float = 0.01) -> int:
    """Number of units of the posteriors N(mean, exp(log_variance)) (N, Z) of N images that depend on the image.

    A unit does where the variance of its mean is more than `share` of all its variance, Var[mean] + E[exp(log_variance)].
    Raises: ValueError, if the shapes differ or there are fewer than two images.
    Source: Burda et al. 2016, section 5.2, whose threshold is 0.01 of the prior's unit variance; as a share it means the
    same where a decoder has rescaled its latents.
    """
    if mean.ndim != 2 or mean.shape != log_variance.shape or len(mean) < 2:
        raise ValueError(f"latents: got {mean.shape} means and {log_variance.shape} log-variances, expected (N > 1, Z)")
    signal = mean.var(0, dtype=np.float64)
    noise = np.exp(log_variance.astype(np.float64)).mean(0)
    return int(np.count_nonzero(signal > share * (signal + noise)))


def probe_accuracy(seen: Floats, seen_labels: Labels, held_out: Floats, held_out_labels: Labels) -> float:
    """Share of held_out (M, Z) whose labels (M,) a linear classifier of the standardised seen (N, Z) names.

    Decided by the arrays alone: of more than PROBE_ROWS rows it learns from the same ones every time.
    Raises: ValueError, if shapes do not fit or the seen labels are of fewer than two classes.
    """
    if seen.ndim != 2 or held_out.ndim != 2 or seen.shape[1] != held_out.shape[1] or not len(held_out):
        raise ValueError(f"latents: got arrays of shape {seen.shape} and {held_out.shape}, expected (N, Z) and (M, Z)")
    if seen_labels.shape != (len(seen),) or held_out_labels.shape != (len(held_out),):
        raise ValueError(
            f"labels: got {seen_labels.shape} and {held_out_labels.shape}, expected ({len(seen)},) and ({len(held_out)},)"
        )
    if len(np.unique(seen_labels)) < 2:
        raise ValueError("labels: a probe needs at least two classes to tell apart")
    if len(seen) > PROBE_ROWS:
        rows = np.random.default_rng(0).choice(len(seen), PROBE_ROWS, replace=False)
        seen, seen_labels = seen[rows], seen_labels[rows]
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=PROBE_STEPS))
    with threadpool_limits(1), warnings.catch_warnings():  # more threads would change the order of sums
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(seen.astype(np.float64), seen_labels)
        return float((probe.predict(held_out.astype(np.float64)) == held_out_labels).mean())


def path_smoothness(frames: Floats) -> PathSmoothness:
    """How evenly the features of frames (P, S, D), S steps along each of P paths, change.

    A path along which nothing changes counts as straight and even; of one that only returns to its start the arc-chord
    ratio is infinite. Raises: ValueError, if there is no path or S is below 3.
    """
    if frames.ndim != 3 or not frames.size or frames.shape[1] < 3:
        raise ValueError(f"frames: got an array of shape {frames.shape}, expected (P > 0, S > 2, D)")
    path = frames.astype(np.float64)
    steps = np.linalg.norm(np.diff(path, axis=1), axis=2)
    lengths, ends = steps.sum(1), np.linalg.norm(path[:, -1] - path[:, 0], axis=1)
    moving = lengths > 0
    arc_chord, largest_step = np.ones(len(path)), np.ones(len(path))
    with np.errstate(divide="ignore"):
        np.divide(lengths, ends, out=arc_chord, where=moving)
    np.divide(steps.max(1), steps.mean(1), out=largest_step, where=moving)
    return PathSmoothness(float(np.median(arc_chord)), float(np.median(largest_step)))
