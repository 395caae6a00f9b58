"""A G that draws one picture whatever the noise: noticed while it learns from a D on features, and answered.

    averaged model, training images -> spread -> healthy: its state is kept | collapsed: back to the state kept, at half the rates

That is how a Projected GAN fails, early or late, and no loss tells. The spread is how far samples lie from each other, by how
far training images do: of a conditional model within classes. What is decided depends on weights, images and seed alone, and
all of it is in the checkpoint, twice as large for that: a training that was stopped decides as one that was not.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from training import checkpoint
from training.data import ImageSet
from training.errors import Collapsed
from training.learner import Learner
from training.model import Model
from training.progress import say

HEALTHY = 0.5
"""Spread from which on a state is kept to go back to: defaults are to stay above it."""

COLLAPSED = 0.25
"""Spread below which G has collapsed: half of what is healthy. One picture with a little noise over it has some hundredths."""

EARLY = 20_000
"""Images of the phase after which a G that was never healthy has collapsed too. It begins with one picture for every noise."""

ROLLBACKS = 3
"""How often a training goes back; learning rates are an eighth by then."""

IMAGES, THUMBNAIL, BATCH = 128, 8, 32
"""Samples and training images that are compared, averaged to so many pixels a side; how many are drawn at once."""


class CollapseWatch:
    """Watches one training, in its phase of D."""

    def __init__(self, learner: Learner, images: ImageSet) -> None:
        self._learner = learner
        self._settings = learner.settings
        rows = slice(0, IMAGES)
        self._labels = images.classes(rows) if learner.model.label_names else None
        self._count = min(IMAGES, len(images))
        self._real = mean_distance(images.pixels(rows), self._labels)
        self._began = 0
        self._rollbacks = 0
        self._was_healthy = False
        self._kept: dict[str, Tensor] = {}

    @property
    def has_begun(self) -> bool:
        """Whether there is a state to go back to."""
        return bool(self._kept)

    def begin(self, model: Model) -> None:
        """Keep the state before the first step of the phase. model: calibrated; a hybrid's may be healthy from the beginning."""
        self._began = self._learner.images
        self._was_healthy = self.spread(model) >= HEALTHY
        self._keep()

    @torch.inference_mode()
    def spread(self, model: Model) -> float:
        """Of a calibrated model: the mean distance of samples by that of training images; 1 where these are all alike."""
        if not self._real > 0:
            return 1.0
        device = model.variance.device
        noise = torch.randn(self._count, model.noise_dim, generator=torch.Generator().manual_seed(self._settings.seed))
        drawn = []
        for start in range(0, self._count, BATCH):
            rows = slice(start, start + BATCH)
            label = None if self._labels is None else self._labels[rows].to(device)
            drawn.append(_thumbnails(model.generate(noise[rows].to(device), label)))
        apart = mean_distance(torch.cat(drawn), self._labels)
        return float(self._learner.world.mean(torch.tensor(apart, device=device))) / self._real

    def has_collapsed(self, spread: float) -> bool:
        """Whether G has; where it is healthy its state is kept."""
        if spread >= HEALTHY:
            self._was_healthy = True
            self._keep()
        shown = self._learner.images - self._began
        return spread < COLLAPSED and (self._was_healthy or shown >= EARLY)

    def go_back(self, spread: float) -> None:
        """Put the learner back to the state kept, at half the rates that it had; it is told in words.

        Raises: Collapsed, if that was done ROLLBACKS times before.
        """
        images, learner = self._learner.images, self._learner
        what = (
            f"after {images:,} images samples lie only {spread:.2f} times as far from each other as training images do: "
            "G draws nearly one picture for every noise"
        )
        if self._rollbacks == ROLLBACKS:
            raise Collapsed.with_advice(what, self._settings, ROLLBACKS)
        self._rollbacks += 1
        learner.load(self._kept, is_frozen=learner.model.encoder is not None)
        self._set_rate()
        if learner.world.is_first:
            say(
                f"{what}; back to the state after {learner.images:,} images, with half the learning rate "
                f"({self._rollbacks} of at most {ROLLBACKS} times)"
            )

    def state(self) -> dict[str, Tensor]:
        """What `load` takes."""
        account = {"began": self._began, "rollbacks": self._rollbacks, "was_healthy": self._was_healthy}
        return {f"watch/{name}": torch.tensor(value) for name, value in account.items()} | {
            f"kept/{name}": value for name, value in self._kept.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on as the watch whose `state` is in a checkpoint. Raises: KeyError, if there is none."""
        self._began, self._rollbacks = int(state["watch/began"]), int(state["watch/rollbacks"])
        self._was_healthy = bool(state["watch/was_healthy"])
        self._kept = checkpoint.part(state, "kept")
        self._set_rate()

    def _keep(self) -> None:
        self._kept = {name: value.detach().to("cpu", copy=True) for name, value in self._learner.state().items()}

    def _set_rate(self) -> None:
        rate = self._settings.learning_rate / 2**self._rollbacks
        self._learner.settings = self._settings.model_copy(update={"learning_rate": rate})


def mean_distance(images: Tensor, label: Tensor | None = None) -> float:
    """Between thumbnails of images (N, C, H, W), with label (N,) of those of one class, where there are two; NaN of one image."""
    small = _thumbnails(images).flatten(1)
    apart = torch.cdist(small, small, compute_mode="donot_use_mm_for_euclid_dist")
    others = ~torch.eye(len(small), dtype=torch.bool, device=small.device)
    if label is not None:
        own = others & (label[:, None] == label).to(small.device)
        others = own if own.any() else others
    return float(apart[others].mean())


def _thumbnails(images: Tensor) -> Tensor:
    return adaptive_avg_pool2d(images.float(), THUMBNAIL)
