"""Several processes take the steps that one would: torchrun with two of them on the CPU, and what cannot be dealt out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from training.errors import TrainingError
from training.families import FamilyName
from training.parallel import ALONE, World, world
from training.settings import TrainSettings
from training.trainer import learner, load_images, train

pytestmark = pytest.mark.slow

FAMILIES = get_args(FamilyName)
STEPS = 25

STEPS_COMPARED = 10

SCRIPT = """
import json, os, sys
from dataclasses import fields, replace
from pathlib import Path

import torch
from training.batch import draw_batch
from training.errors import Stopped
from training.parallel import ALONE, world
from training.schedule import phase
from training.settings import TrainSettings
from training.trainer import learner, load_images, resume, train

rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
families, steps = json.loads(sys.argv[2]), int(sys.argv[3])


def settings(family: str, out: str) -> TrainSettings:
    return TrainSettings.model_validate(families[family] | {"out": folder / out})


def double(value):
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    if value is None or isinstance(value, bool):
        return value
    return replace(value, **{each.name: double(getattr(value, each.name)) for each in fields(value)})


def compared(one, two, before):
    apart = {name: (one[name] - two[name]).abs().max().item() for name in one if not name.startswith("g_opt")}
    way = max((one[name] - before[name]).abs().max().item() for name in one if name.startswith("model/"))
    return max(apart.values()), way


with world("cpu") as (here, _):
    for family in families:
        train(settings(family, f"{family}-{rank}"))  # a folder for each process, to see which of them write
    train(settings("vae", f"one-step-{rank}").model_copy(update={"images": 16}))
    try:
        train(settings("hybrid", "stopped"), is_stopped=lambda: rank == 1)
    except Stopped as stopped:
        (folder / f"stopped-{rank}").write_text(str(stopped))
    resume(folder / "stopped")

    single = torch.Tensor.float
    # The learner leaves bf16 by float(); what is float64 already is to stay so.
    torch.Tensor.float = lambda tensor: tensor if tensor.dtype == torch.float64 else single(tensor)
    for family in families:
        chosen = settings(family, "run")
        images, _ = load_images(chosen)
        torch.set_default_dtype(torch.float64)
        one, two = (learner(chosen, images, torch.device("cpu"), each) for each in (ALONE, here))
        torch.set_default_dtype(torch.float32)
        seen = []
        for step in range(steps):
            which = phase(family, step, steps)
            if family == "hybrid" and which.is_adversarial and not seen[-1]["adversarial"]:
                one.freeze_encoder(None)
            before = {name: value.clone() for name, value in one.state().items()}
            two.load(before, is_frozen=which.is_adversarial)
            rows = next(images.batches(chosen.batch, chosen.seed, start=step * chosen.batch))
            told = []
            for learning, place in ((one, ALONE), (two, here)):
                dims = learning.model.latent_dim, learning.model.noise_dim
                batch = draw_batch(chosen, step, images, rows, *dims, torch.device("cpu"), place)
                losses = learning.learn(double(batch), which)
                told.append({name: place.mean(loss).item() for name, loss in losses.items()})
            apart, way = compared(one.state(), two.state(), before)
            losses = max(abs(told[1][name] / value - 1) for name, value in told[0].items())
            seen.append({"weights": apart, "way": way, "losses": losses, "adversarial": which.is_adversarial})
        if here.is_first:
            (folder / f"{family}.json").write_text(json.dumps(seen))
"""


def _settings(family: FamilyName, **changes: Any) -> dict[str, Any]:
    """A prior that is fitted may turn on the last bits of E, so a hybrid's second phase has one that is not."""
    chosen = {"data": "digits", "size": 8, "latent_dim": 4, "images": 16 * STEPS, "batch": 16, "device": "cpu"}
    several = {"mirror": True, "conditional": True, "prior": "normal", "diffaugment": family != "vae"}
    return {"out": "run", "family": family, **chosen, **several, **changes}


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes leave, run by torchrun: a run of each family by each, one that was stopped and continued, and how far
    steps of both and of one alone are apart, by family."""
    folder = tmp_path_factory.mktemp("by-two")
    (folder / "script.py").write_text(SCRIPT)
    settings = json.dumps({family: _settings(family) for family in FAMILIES})
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*torchrun, str(folder / "script.py"), str(folder), settings, str(STEPS_COMPARED)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        timeout=240,
    )
    return folder


@pytest.fixture(scope="module")
def by_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("by-one")
    for family in FAMILIES:
        train(TrainSettings.model_validate(_settings(family) | {"out": folder / family}))
    return folder


def _stats(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_s"} for line in lines]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_two_processes_is_that_of_one_from_the_same_weights(family: FamilyName, by_two: Path) -> None:
    """In float64, where sums in another order are 1e-16 apart: no leaky ReLU meets its kink between the two, and Adam, which
    divides each gradient by its size, adds 1e-8 to it. In float32 two runs part after some steps; equal weights do not."""
    apart = json.loads((by_two / f"{family}.json").read_text())
    assert len(apart) == STEPS_COMPARED
    for step in apart:
        assert step["way"] > 1e-4
        assert step["weights"] < 1e-6 * step["way"]
        assert step["losses"] < 1e-9


def test_losses_that_are_told_are_means_over_the_processes(by_two: Path, tmp_path: Path) -> None:
    """Of the first step, from equal weights; a likelihood has no kink. Either half of the batch is percents away."""
    train(TrainSettings.model_validate(_settings("vae", images=16) | {"out": tmp_path / "run"}))
    (one,), (two,) = _stats(tmp_path / "run"), _stats(by_two / "one-step-0")
    assert two == pytest.approx(one, rel=1e-4)


def test_only_the_first_process_writes(by_two: Path, by_one: Path) -> None:
    for family in FAMILIES:
        left = {path.name for path in (by_two / f"{family}-0").iterdir()}
        assert left == {path.name for path in (by_one / family).iterdir()}
        assert not (by_two / f"{family}-1").exists()


def test_processes_stop_together_and_go_on_to_the_same_end(by_two: Path) -> None:
    """The second process alone was told to stop, in its first step; both did at the next report, which ends a phase."""
    for rank in range(2):
        assert (by_two / f"stopped-{rank}").read_text().startswith("stopped after 288 of 400 images")
    uninterrupted = by_two / "hybrid-0"
    assert _stats(by_two / "stopped") == _stats(uninterrupted)
    weights = [(run / "weights.safetensors").read_bytes() for run in (by_two / "stopped", uninterrupted)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_each_row_of_a_batch_is_one_processes(size: int) -> None:
    batch = np.arange(16)
    parts = [batch[World(rank, size).rows(len(batch))] for rank in range(size)]
    assert np.concatenate(parts).tolist() == batch.tolist()
    assert {len(part) for part in parts} == {16 // size}


@pytest.mark.parametrize(("size", "batch"), [(2, 14), (2, 15), (3, 64)])
def test_a_batch_that_cannot_be_dealt_out_in_even_shares_is_refused(size: int, batch: int) -> None:
    """Even, since every other row of a hybrid's share is a reconstruction."""
    with pytest.raises(TrainingError, match=f"batch: got {batch}, {size} processes want a multiple of {2 * size}"):
        World(0, size).check(batch)


def test_a_process_alone_takes_any_batch() -> None:
    ALONE.check(15)
    assert ALONE.rows(15) == slice(0, 15)


def test_a_process_alone_needs_no_other() -> None:
    gradient = torch.tensor([1.0, 2.0])
    ALONE.average_([gradient])
    assert gradient.tolist() == ALONE.mean(gradient).tolist() == [1, 2]
    assert ALONE.agree(True)
    assert not ALONE.agree(False)
    with world("cpu") as (here, device):
        assert (here, device) == (ALONE, "cpu")


def test_the_baseline_is_trained_by_one_process() -> None:
    settings = TrainSettings.model_validate(_settings("gan", adversarial="plain"))
    with pytest.raises(TrainingError, match="plain takes batch norms of whole batches; allowed with one process"):
        learner(settings, load_images(settings)[0], torch.device("cpu"), World(0, 2))
