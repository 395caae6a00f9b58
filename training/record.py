"""run.json, how a run was begun, and what a folder is that should hold a run.

    settings, images -> Record -> run.json -> Record
    run folder -> Record, or why there is none

Whoever wants to know anything of a run asks here: there is one reader, and what it cannot read it says in words.
"""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open

from training import checkpoint, openmoji
from training.data import ImageSet
from training.defaults import weights_notices
from training.errors import RunFolderError
from training.schedule import PhaseName
from training.settings import TrainSettings
from training.sources import notices

FILE = "run.json"


class DataFacts(BaseModel, frozen=True):
    """What is known of the images of a training: how many it learned from, how many were held out, and their hash."""

    images: int
    held_out: int
    sha256: str


class Kept(BaseModel, frozen=True):
    """The model that `--keep-best` kept: after how many images, by which features, and its distances to held-out images.

    distance: to the half that picked it, smaller than it should be. of_other_half: to the one that had no say.
    """

    images: int
    judged_by: str
    distance: float
    of_other_half: float


class Record(BaseModel, frozen=True):
    """What decides a run: its settings, its images and the packages that it was begun with.

    threads: of the CPU, that the run found its steps quickest by, by phase; nothing where the settings tell the number.
    notices: what is to be said wherever the model goes, each in a sentence: whose the images are, or weights that it began with,
    and the license. finished: the run that an encoder is learned for. kept: known at the end of a run, and only where it was to
    keep the best model.
    """

    settings: TrainSettings
    data: DataFacts
    versions: dict[str, str]
    threads: dict[PhaseName, int] = {}
    notices: tuple[str, ...] = ()
    finished: "Finished | None" = None
    kept: Kept | None = None


class Finished(BaseModel, frozen=True):
    """What is known of a finished run elsewhere: its folder's name, the images it was shown, and its record."""

    run: str
    images: int
    record: Record


def record_of(settings: TrainSettings, seen: ImageSet, held_out: ImageSet) -> Record:
    """The record of a run that is begun now. Raises: RunFolderError, if it learns an encoder for none that can be read."""
    names = ["torch", "numpy", "scikit-learn", "pillow", *(openmoji.PACKAGES if settings.data == openmoji.NAME else ())]
    packages = {name: version(name) for name in names}
    finished = _finished(settings.encoder_for) if settings.encoder_for else None
    own = (*notices(settings.data), *weights_notices(settings))
    return Record(
        settings=settings,
        data=DataFacts(images=len(seen), held_out=len(held_out), sha256=split_sha256(seen, held_out)),
        versions={"python": platform.python_version(), **packages},
        notices=tuple(dict.fromkeys([*own, *(finished.record.notices if finished else ())])),
        finished=finished,
    )


def _finished(folder: Path) -> Finished:
    record = read_record(folder)
    return Finished(run=folder.resolve().name, images=images_shown(folder, record.settings), record=record)


def split_sha256(seen: ImageSet, held_out: ImageSet) -> str:
    """What images and their split are known by."""
    return hashlib.sha256((seen.digest() + held_out.digest()).encode()).hexdigest()


def read_record(folder: Path) -> Record:
    """run.json of a run, finished or not.

    Raises: RunFolderError, if the folder is no run's or the record is not one that this version reads.
    """
    file = folder / FILE
    try:
        return Record.model_validate_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise RunFolderError(_no_run(folder)) from None
    except OSError as error:
        raise RunFolderError(f"{file} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        wrong = error.errors()[0]
        if wrong["type"] == "json_invalid":
            raise RunFolderError(f"{file} is not JSON: {wrong['ctx']['error']}") from None
        raise RunFolderError(f"{file} is no record that this version of Figment reads: {_told(error)}") from None


def check_data(begun: Record, seen: ImageSet, held_out: ImageSet, folder: Path) -> None:
    """Raises: RunFolderError, if the images are not those that the run in `folder` began with."""
    now = DataFacts(images=len(seen), held_out=len(held_out), sha256=split_sha256(seen, held_out))
    if begun.data != now:
        raise RunFolderError(
            f"data: {begun.settings.data} has changed since {folder} was begun: {begun.data} then, {now} now"
        )


def is_finished(folder: Path) -> bool:
    """Whether the folder holds a model, which is written last."""
    return (folder / "model.json").is_file()


def standing(folder: Path, settings: TrainSettings) -> str:
    """Where the unfinished run in `folder` stands, and what can be done."""
    try:
        with safe_open(folder / checkpoint.FILE, "pt") as state:
            images, spent_s = int(state.get_tensor("images")), float(state.get_tensor("spent_s"))
    except (OSError, SafetensorError):
        return (
            f"it has no {checkpoint.FILE} to continue from, one is written every --checkpoint-every images, here "
            f"{settings.checkpoint_every:,}; it is still being trained, or was cut off: then remove it and train anew"
        )
    return f"{so_far(settings, images, spent_s)}; to continue: figment resume {folder}"


def so_far(settings: TrainSettings, images: int, spent_s: float) -> str:
    """How far a training is after so many images and seconds."""
    if settings.minutes is not None:
        return f"{spent_s / 60:.1f} of {settings.minutes:g} minutes, {images:,} images"
    return f"{min(images, settings.images):,} of {settings.images:,} images"


def images_shown(folder: Path, settings: TrainSettings) -> int:
    """Of a finished run: by the clock, what its last report says. Raises: RunFolderError, if that cannot be read."""
    if settings.minutes is None:
        return settings.images
    file = folder / "stats.jsonl"
    try:
        return int(json.loads(file.read_text().splitlines()[-1])["images"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RunFolderError(f"{file} does not tell how many images were shown: {error}") from None


def _no_run(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is not a run: {'it is a file' if folder.exists() else 'there is no such folder'}"
    inside = sorted(path.parent.name for path in folder.glob(f"*/{FILE}"))
    if inside:
        return f"{folder} is not a run, but holds some: {', '.join(inside[:8])}"
    if (folder / "manifest.json").exists() or any(folder.glob("*/manifest.json")):
        return f"{folder} is not a run but a published model; runs are what figment train writes"
    return f"{folder} is not a run: {FILE} is missing; runs are what figment train writes"


def _told(error: ValidationError) -> str:
    """The first few complaints, and what may be the reason."""
    wrong = [f"{'.'.join(map(str, each['loc'])) or 'all of it'}: {_words(each)}" for each in error.errors()[:3]]
    return f"{'; '.join(wrong)}; another version wrote it, which can read it, or it was changed by hand"


def _words(each: object) -> str:
    assert isinstance(each, dict), "pydantic tells each complaint as a dictionary"
    if each["type"] == "missing":
        return "is missing"
    if each["type"] == "extra_forbidden":
        return "is not known here"
    return f"got {str(each['input'])[:100]!r}: {each['msg']}"
