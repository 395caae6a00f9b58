"""The model whose samples were nearest to held-out images, of those at the sheets of a training: `--keep-best`.

    finished model at a sheet -> samples -> distances to both halves of the held-out images -> the best so far

One half picks, the other, which had no say, tells how good the pick is. Decided by weights, images and seed alone; the account
is in the checkpoint, the model that is the best so far too.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evaluation.features import ClassifierFeatures, Features, RandomFeatures
from evaluation.halves import HalfDistances
from evaluation.pretrained import EFFNET, installed
from training import checkpoint
from training.data import ImageSet, pixels_to_bytes
from training.errors import TrainingError
from training.model import Model, ModelFacts
from training.record import Kept

DRAWN = 1_000
"""Samples of each model that is judged, of the same noise: 12 s of one core by EfficientNet."""

MOST_HELD_OUT, MOST_SEEN = 4_000, 10_000
"""Held-out images that distances are taken to, and training images that a classifier learns from, at most."""

BATCH = 50


class BestModel:
    """Judges one training's models, and holds the best."""

    def __init__(self, seen: ImageSet, held_out: ImageSet, seed: int) -> None:
        """Raises: TrainingError, if there are fewer than 4 held-out images."""
        self._features = _features(seen)
        try:
            self._distances = HalfDistances(_first(held_out, MOST_HELD_OUT).images, seed, self._features)
        except ValueError as error:
            raise TrainingError(f"keep_best: {error}") from error
        self._seen = seen
        self._seed = seed
        self.model: Model | None = None
        self.kept: Kept | None = None

    def judge(self, model: Model, images: int, device: torch.device) -> dict[str, float]:
        """Keep `model`, on the CPU, if it is the best so far. images: that it was shown. Returns its distances by name."""
        distance, of_other_half = self._distances(self._drawn(model.to(device)))
        model.to("cpu")
        if self.kept is None or distance < self.kept.distance:
            self.kept, self.model = self._kept(images, distance, of_other_half), model
        return {"distance": distance, "distance_of_other_half": of_other_half}

    def state(self) -> dict[str, Tensor]:
        """What `load` takes; empty before a model was judged."""
        if self.model is None or self.kept is None:
            return {}
        account = {
            "images": torch.tensor(self.kept.images),
            "distances": torch.tensor([self.kept.distance, self.kept.of_other_half], dtype=torch.float64),
            "prior_components": torch.tensor(self.model.facts.prior_components),
        }
        weights = {f"weights/{name}": value for name, value in self.model.state_dict().items()}
        return {f"best/{name}": value for name, value in (account | weights).items()}

    def load(self, state: Mapping[str, Tensor], model: Model) -> None:
        """Go on with the account that is in a checkpoint. model: whose networks are the same.

        Raises: KeyError, RuntimeError, if the state is of other networks.
        """
        self.model = best_so_far(state, model.facts)
        if self.model is None:
            return
        own = checkpoint.part(state, "best")
        distance, of_other_half = own["distances"].tolist()
        self.kept = self._kept(int(own["images"]), distance, of_other_half)

    def _kept(self, images: int, distance: float, of_other_half: float) -> Kept:
        judged_by = f"{self._features.name} {self._features.hash}, {DRAWN} samples"
        return Kept(images=images, judged_by=judged_by, distance=distance, of_other_half=of_other_half)

    @torch.inference_mode()
    def _drawn(self, model: Model) -> npt.NDArray[np.uint8]:
        draw = np.random.default_rng(self._seed)
        noise = torch.from_numpy(draw.standard_normal((DRAWN, model.noise_dim), np.float32)).to(model.variance.device)
        label = None
        if model.label_names:
            assert self._seen.labels is not None, "labels were learned"
            label = torch.from_numpy(draw.choice(self._seen.labels, DRAWN)).to(noise.device)
        parts = [slice(start, start + BATCH) for start in range(0, DRAWN, BATCH)]
        drawn = [pixels_to_bytes(model.generate(noise[part], None if label is None else label[part])) for part in parts]
        return np.concatenate(drawn)


def best_so_far(state: Mapping[str, Tensor], facts: ModelFacts) -> Model | None:
    """The best model by a checkpoint; None where none was judged by then. facts: of such models, whatever their prior.

    Raises: KeyError, RuntimeError, if the state is of other networks.
    """
    own = checkpoint.part(state, "best")
    if not own:
        return None
    model = Model(replace(facts, prior_components=int(own["prior_components"]))).eval()
    model.load_state_dict(checkpoint.part(own, "weights"))
    return model


def _features(seen: ImageSet) -> Features:
    """EfficientNet's of colour images, where its weights are installed; else a classifier's of the labels, or random ones."""
    channels = seen.shape[2]
    if channels == 3 and (found := next((each for each in installed() if each.name == EFFNET), None)):
        return found
    if seen.labels is not None and len(np.unique(seen.labels)) > 1:
        some = _first(seen, MOST_SEEN)
        assert some.labels is not None, "as the whole set"
        threads = torch.get_num_threads()
        torch.set_num_threads(
            1
        )  # how many there are decides last bits, and a training that is continued may have others
        try:
            return ClassifierFeatures.train(some.images, some.labels, len(seen.label_names))
        finally:
            torch.set_num_threads(threads)
    return RandomFeatures(channels)


def _first(images: ImageSet, most: int) -> ImageSet:
    return images.take(np.arange(min(most, len(images))))
