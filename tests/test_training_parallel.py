"""Several processes train what one would: torchrun with two of them on the CPU, and what cannot be dealt out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from training.errors import TrainingError
from training.parallel import ALONE, World, world
from training.settings import Family, TrainSettings
from training.trainer import learner, load_images, train

FAMILIES = get_args(Family)
STEPS = 25

SCRIPT = """
import json, os, sys
from pathlib import Path
from training.errors import Stopped
from training.parallel import world
from training.settings import TrainSettings
from training.trainer import resume, train

rank, folder, families = int(os.environ["RANK"]), Path(sys.argv[1]), json.loads(sys.argv[2])


def settings(family: str, out: str) -> TrainSettings:
    return TrainSettings.model_validate(families[family] | {"out": folder / out})


with world("cpu"):
    for family in families:
        train(settings(family, f"{family}-{rank}"))  # a folder for each process, to see which of them write
    try:
        train(settings("hybrid", "stopped"), is_stopped=lambda: rank == 1)
    except Stopped as stopped:
        (folder / f"stopped-{rank}").write_text(str(stopped))
    resume(folder / "stopped")
"""


def _settings(family: Family, **changes: Any) -> dict[str, Any]:
    """A prior that is fitted may turn on the last bits of E, so a hybrid's second phase has one that is not."""
    chosen = {"data": "digits", "size": 8, "latent_dim": 4, "images": 16 * STEPS, "batch": 16, "device": "cpu"}
    several = {"mirror": True, "conditional": True, "prior": "normal", "diffaugment": family != "vae"}
    return {"out": "run", "family": family, **chosen, **several, **changes}


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes leave: a run of each family by each, and one that was stopped and continued."""
    folder = tmp_path_factory.mktemp("by-two")
    (folder / "script.py").write_text(SCRIPT)
    settings = json.dumps({family: _settings(family) for family in FAMILIES})
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*torchrun, str(folder / "script.py"), str(folder), settings],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        timeout=120,
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
def test_two_processes_train_what_one_trains(family: Family, by_two: Path, by_one: Path) -> None:
    """Sums in another order differ in the last of 24 bits. Adam divides each gradient by its size, so a few weights whose
    gradients are nearly nothing may part by a whole step; all of them together stay within a hundredth of a percent of
    the way that they went."""
    settings = TrainSettings.model_validate(_settings(family))
    start = learner(settings, load_images(settings)[0], torch.device("cpu")).average.state_dict()
    one, two = (load_file(run / "weights.safetensors") for run in (by_one / family, by_two / f"{family}-0"))
    names = [name for name in one if not name.startswith("prior.")]
    way, apart = (torch.cat([(one[name] - there[name]).flatten() for name in names]).norm() for there in (start, two))
    assert one.keys() == two.keys()
    assert way > 0.1
    assert apart < 1e-4 * way


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_means_over_the_processes(family: Family, by_two: Path, by_one: Path) -> None:
    for two, one in zip(_stats(by_two / f"{family}-0"), _stats(by_one / family), strict=True):
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
