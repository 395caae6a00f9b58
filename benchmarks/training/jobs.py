"""Trainings that are measured: some at once, each in a process of one thread, none twice.

    Jobs -> [process: train or resume -> judge] ... -> OUT/<job>.json -> Outcomes

A job whose outcome is there is not run again, one that was cut off goes on from its checkpoint, or begins anew before the
first. What was begun with other settings is refused, not passed off as what was asked for.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from evaluation.scorecard import Evaluator
from export.evaluated_models import TrainedModel
from export.source import real_images
from training.checkpoint import FILE
from training.errors import Collapsed, Diverged
from training.model import Model
from training.record import read_record
from training.settings import TrainSettings
from training.sources import load
from training.trainer import resume, train

HELD_OUT = 0.2
"""Share of one set that runs keep back by default."""


class OtherSettings(Exception):
    """A run of this name was begun with other settings."""


@dataclass(frozen=True)
class Job:
    """One training. settings: of TrainSettings, without data and out. is_quick: only figures of samples are wanted."""

    name: str
    settings: dict[str, Any]
    is_quick: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a job. minutes: of the training; error: why it ended early; normal: figures under N(0, I), of a VAE."""

    name: str
    minutes: float = 0.0
    error: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    normal: dict[str, float] = field(default_factory=dict)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that these benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="images to learn from, such as MNIST's train.parquet")
    parser.add_argument("--test", required=True, help="images to judge by, such as MNIST's test.parquet")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and outcomes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2, help="trainings at once")
    return parser


def settings_of(options: argparse.Namespace, name: str, **settings: Any) -> TrainSettings:
    """The settings of the run `name`: what was asked for, and others than that."""
    return TrainSettings.model_validate(
        {"data": options.data, "out": options.out / name, "device": options.device, "threads": 1, **settings}
    )


def outcomes(jobs: Sequence[Job], options: argparse.Namespace) -> dict[str, Outcome]:
    """By name; whatever is missing is trained and judged first. Raises: OtherSettings."""
    options.out.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        _check(settings_of(options, job.name, **job.settings))
    files = {job.name: options.out / f"{job.name}.json" for job in jobs}
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(_run, job, options, files[job.name]) for job in jobs if not files[job.name].is_file()]
        for result in running:
            print(result.result(), flush=True)
    return {name: Outcome(**json.loads(file.read_text())) for name, file in files.items()}


@cache
def judge(data: str, test: str, seed: int = 0) -> Evaluator:
    """One for each process and set of images; its classifier is the same in all.

    Where `data` and `test` are one set, that holds out what runs of the seed do.
    """
    torch.set_num_threads(1)
    seen, held_out = load(data, None).split(HELD_OUT, seed) if data == test else (load(data, None), load(test, None))
    return Evaluator(real_images(seen), real_images(held_out))


def trained(settings: TrainSettings) -> Model:
    """The finished model of a run that may be there already, whole or cut off. Raises: OtherSettings."""
    _check(settings)
    if (settings.out / "model.json").is_file():
        return Model.load(settings.out)
    if (settings.out / FILE).is_file():
        return resume(settings.out)
    shutil.rmtree(settings.out, ignore_errors=True)  # cut off before its first checkpoint
    return train(settings)


def minutes(run: Path) -> float:
    """What its training took."""
    last = json.loads((run / "stats.jsonl").read_text().splitlines()[-1])
    return float(last["images"] / last["images_per_s"] / 60)


def _run(job: Job, options: argparse.Namespace, file: Path) -> Outcome:
    settings = settings_of(options, job.name, **job.settings)
    try:
        model = trained(settings)
    except (Collapsed, Diverged) as error:
        outcome = Outcome(job.name, error=str(error))
    else:
        outcome = _judged(job, model, minutes(settings.out), judge(options.data, options.test, settings.seed))
    file.write_text(json.dumps(asdict(outcome), indent=2) + "\n")
    return outcome


def _judged(job: Job, model: Model, minutes: float, by: Evaluator) -> Outcome:
    evaluated = TrainedModel(model, job.name)
    if job.is_quick:
        return Outcome(job.name, minutes, figures=by.score_samples(evaluated))
    figures = by.score(evaluated).figures
    normal: dict[str, float] = {}
    if model.family == "vae":
        model.set_mixture(None)
        normal = by.score_samples(TrainedModel(model, job.name))
    return Outcome(job.name, minutes, figures=figures, normal=normal)


def _check(settings: TrainSettings) -> None:
    """Raises: OtherSettings, if the run that is there was begun with others."""
    if not (settings.out / "run.json").is_file():
        return
    began = read_record(settings.out).settings
    where = {"data", "out", "cache", "device"}
    then, now = (each.model_dump(exclude=where) for each in (began, settings))
    # What is left to the run to choose is not other than what it chose.
    if changed := sorted(name for name in now if then[name] != now[name] != "auto"):
        raise OtherSettings(
            f"{settings.out} was begun with other {', '.join(changed)}; choose another --out or remove it"
        )
