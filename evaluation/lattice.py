"""The lattice that upsampling leaves in pictures, and what convolutions do at the border: energies by place, not by frequency.

    images (N, H, W, C) uint8 -> squared differences of neighbours -> means by pixel phase modulo 8, and along the border

Real pictures have the same energy at each phase, near enough; a generator that doubles three times and more may not.
Source: Odena et al. 2016 show such checkerboards. Knows numpy alone.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PERIOD = 8
"""Phases: a lattice of three doublings, and of two and one, repeats after so many pixels."""

BATCH = 64

Images = npt.NDArray[np.uint8]
Energies = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NeighbourEnergy:
    """phases: (2 * P,) mean squared differences, of rows and of columns, by phase; border: of pairs at the outermost pixels."""

    phases: Energies
    border: float


def neighbour_energy(images: Images) -> NeighbourEnergy:
    """Energies of images (N, H, W, C); P is 8, or less where a side has fewer than 9 pixels.

    Raises: ValueError, if the images are of another type or shape, there are none, or a side has a single pixel.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size or min(images.shape[1:3]) < 2:
        raise ValueError(
            f"images: got {images.dtype} {images.shape}, expected uint8 (N, H, W, C) with N > 0 and sides of 2 or more"
        )
    count, height, width, channels = images.shape
    down, across = np.zeros((height - 1, width)), np.zeros((height, width - 1))
    for start in range(0, count, BATCH):
        levels = images[start : start + BATCH].astype(np.float32)
        down += np.square(np.diff(levels, axis=1)).sum((0, 3), dtype=np.float64)
        across += np.square(np.diff(levels, axis=2)).sum((0, 3), dtype=np.float64)
    down, across = down / (count * channels), across / (count * channels)
    phases = [
        line[phase::PERIOD].mean() for line in (down.mean(1), across.mean(0)) for phase in range(min(PERIOD, len(line)))
    ]
    return NeighbourEnergy(np.array(phases), float(np.concatenate([_outer(down), _outer(across)]).mean()))


def lattice(drawn: NeighbourEnergy, real: NeighbourEnergy) -> tuple[float, float] | None:
    """The smallest and the largest energy of a phase, drawn by real; None where the real images have none at all."""
    if not real.phases.any():
        return None
    ratios = [_ratio(*pair) for pair in zip(drawn.phases, real.phases, strict=True)]
    return min(ratios), max(ratios)


def border(drawn: NeighbourEnergy, real: NeighbourEnergy) -> float:
    """The energy along the border, drawn by real: infinite where only drawn images have any."""
    return _ratio(drawn.border, real.border)


def _outer(energies: Energies) -> Energies:
    """Those at the outermost places of (H, W): each once."""
    inside = np.zeros(energies.shape, bool)
    inside[1:-1, 1:-1] = True
    outer: Energies = energies[~inside]
    return outer


def _ratio(drawn: float, real: float) -> float:
    if real:
        return float(drawn / real)
    return float("inf") if drawn else 1.0
