"""The model of a run folder: a finished run's own, or what an unfinished one has come to by its last checkpoint.

    model.json, weights.safetensors -> Outcome
    checkpoint -> averaged weights, images of the training -> Model -> Outcome
    checkpoint -> the best model so far, if that is to be kept -> Outcome

Nothing is written: a run that was stopped, was cut off or is being trained can be looked at, and goes on as if nobody had.
"""

from dataclasses import dataclass
from pathlib import Path

from training import checkpoint
from training.best import best_so_far
from training.completion import complete
from training.errors import DataError, Diverged, RunFolderError
from training.model import Model
from training.record import Record, check_data, images_shown, is_finished, read_record, so_far, standing
from training.trainer import load_images, model_facts


@dataclass(frozen=True)
class Outcome:
    """A model, its record, and of an unfinished run how far it is, in words; "" of a finished one."""

    folder: Path
    model: Model
    record: Record
    so_far: str = ""
    stopped_at: int = 0
    """Images that an unfinished run had been shown when its checkpoint was taken."""

    @property
    def images(self) -> int:
        """Shown to the model. Raises: RunFolderError, if a finished run by the clock does not tell."""
        return self.stopped_at if self.so_far else images_shown(self.folder, self.record.settings)

    @property
    def note(self) -> str:
        """What a person should know of an unfinished run, in a line; "" of a finished one."""
        return self.so_far and f"{self.folder} is unfinished: {self.so_far}; to continue: figment resume {self.folder}"


def read_run(folder: Path) -> Outcome:
    """What `folder` holds of a run.

    Raises: RunFolderError, if there is neither a model nor a checkpoint that one can be made of.
    """
    record = read_record(folder)
    if is_finished(folder):
        return Outcome(folder, Model.load(folder), record)
    if not (folder / checkpoint.FILE).is_file():
        raise RunFolderError(f"{folder} is not a finished run: {standing(folder, record.settings)}")
    return _unfinished(folder, record)


def _unfinished(folder: Path, record: Record) -> Outcome:
    state, settings = checkpoint.load(folder), record.settings
    try:
        seen, held_out = load_images(settings)
        check_data(record, seen, held_out, folder)
        facts, images, spent_s = model_facts(settings, seen), int(state["images"]), float(state["spent_s"])
        model = best_so_far(state, facts)
        if model is None:
            model, average = Model(facts).eval(), checkpoint.part(state, "average")
            model.set_mixture(model.mixture_like(average))
            model.load_state_dict(average)
            model = complete(model, seen, held_out, settings, images // settings.batch - 1)
    except (DataError, Diverged) as error:
        raise RunFolderError(f"{folder} is unfinished, and no model can be made of its checkpoint: {error}") from error
    except (KeyError, RuntimeError, ValueError) as error:
        raise RunFolderError(checkpoint.OF_OTHERS.format(folder=folder, error=str(error)[:300])) from error
    return Outcome(folder, model, record, so_far(settings, images, spent_s), images)
