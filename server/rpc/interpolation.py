"""The way between two latents.

Both ends are returned exactly as they came, so that they decode to the bytes that they would decode to alone.
"""

import numpy as np
import numpy.typing as npt

Latents = npt.NDArray[np.float32]

PARALLEL = 1e-4
"""Below this sine of the angle, directions are parallel or opposite: the great circle is a point or not unique."""


def lerp(start: Latents, end: Latents, steps: int) -> Latents:
    """start, end: (Z,). Returns (steps, Z) on the straight line, both ends included."""
    t = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
    return _with_ends((1 - t) * start + t * end, start, end)


def slerp(start: Latents, end: Latents, steps: int) -> Latents:
    """start, end: (Z,). Returns (steps, Z) with directions on the great circle and norms on a line, ends included.

    Source: Shoemake 1985; used on the latents of generative models by White 2016. Parallel ends are joined by `lerp`.
    """
    a, b = start.astype(np.float64), end.astype(np.float64)
    norm_a, norm_b = np.linalg.norm(a), np.linalg.norm(b)
    if norm_a == 0 or norm_b == 0:
        return lerp(start, end, steps)
    angle = np.arccos(np.clip(a @ b / (norm_a * norm_b), -1, 1))
    if np.sin(angle) < PARALLEL:
        return lerp(start, end, steps)
    t = np.linspace(0, 1, steps)[:, None]
    direction = (np.sin((1 - t) * angle) * a / norm_a + np.sin(t * angle) * b / norm_b) / np.sin(angle)
    between = direction * ((1 - t) * norm_a + t * norm_b)
    largest = np.finfo(np.float32).max
    return _with_ends(between.clip(-largest, largest).astype(np.float32), start, end)


def _with_ends(latents: Latents, start: Latents, end: Latents) -> Latents:
    latents[0], latents[-1] = start, end
    return latents
