"""What samples of the averaged model decide while it trains: at each sheet, and at the end.

    averaged model -> calibrated -> collapsed? back | judged, where the best is to be kept -> stats.jsonl, sample grids

Knows that a training may go back, and which model it ends with; when a sheet is due the run folder knows.
"""

from collections.abc import Mapping
from copy import deepcopy

from torch import Tensor

from training.best import BestModel
from training.calibration import calibrate
from training.collapse import CollapseWatch
from training.completion import complete
from training.data import ImageSet
from training.feature_discriminator import FeatureDiscriminator
from training.learner import Learner
from training.model import Model
from training.record import Kept
from training.run import Run
from training.schedule import Phase


class Sheets:
    """Of one training."""

    def __init__(self, learner: Learner, seen: ImageSet, held_out: ImageSet) -> None:
        """Raises: TrainingError, if the best model is to be kept and there are too few held-out images to tell it."""
        self._learner = learner
        self._settings = settings = learner.settings
        self._seen = seen
        self._held_out = held_out
        self._watch = CollapseWatch(learner, seen) if isinstance(learner.discriminator, FeatureDiscriminator) else None
        self._best = BestModel(seen, held_out, settings.seed) if settings.keep_best else None

    def enter(self, now: Phase) -> None:
        """Before each step, once E is final if it is to be."""
        if self._watch and now.is_adversarial and not self._watch.has_begun:
            calibrate(self._learner.ema, self._seen, self._settings.seed)
            self._watch.begin(self._learner.ema)

    def have_sent_back(self, run: Run, now: Phase, step: int, images_per_s: float, is_last: bool) -> bool:
        """Look at samples after `step`, if it is time to. Whether the learner was put back to an earlier state.

        Raises: Collapsed, Diverged.
        """
        images, model, figures = self._learner.images, self._learner.ema, dict[str, float]()
        watch = self._watch if now.is_adversarial else None
        is_due = run.has_grids_due(images)
        if not is_due and not (is_last and (watch or self._best)):
            return False
        calibrate(model, self._seen, self._settings.seed)
        if watch:
            figures["spread"] = watch.spread(model)
            if watch.has_collapsed(figures["spread"]):
                watch.go_back(figures["spread"])
                run.forget_after(self._learner.images)
                run.write_stats(self._learner.images, images_per_s, figures | {"collapsed_after": images})
                return True
        if self._best:
            finished = complete(deepcopy(model), self._seen, self._held_out, self._settings, step)
            figures |= self._best.judge(finished, images, model.variance.device)
        if figures:
            run.write_stats(images, images_per_s, figures)
        if is_due:
            run.draw_grids(images, model)
        return False

    def outcome(self, step: int) -> tuple[Model, Kept | None]:
        """The model that the training ends with after `step`, on the CPU, and what is to be said if it was kept.

        Raises: Diverged, if a number in it is not finite.
        """
        if self._best and self._best.model:
            return self._best.model, self._best.kept
        return complete(self._learner.ema, self._seen, self._held_out, self._settings, step), None

    def state(self) -> dict[str, Tensor]:
        """What `load` takes."""
        return {name: value for each in (self._watch, self._best) if each for name, value in each.state().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on as those whose `state` is in a checkpoint. Raises: KeyError, RuntimeError, if there is none that fits."""
        if self._watch:
            self._watch.load(state)
        if self._best:
            self._best.load(state, self._learner.model)
