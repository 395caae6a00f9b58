"""Whole trainings of a few steps: what they leave behind, that they repeat, and that they stop when they diverge."""

import hashlib
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

import training.trainer as trainer
from training.errors import Diverged, RunFolderError, TrainingError
from training.model import Model
from training.run import read_provenance
from training.settings import Family, TrainSettings
from training.trainer import Progress, train

FAMILIES = get_args(Family)


def _settings(out: Path, family: Family, **changes: Any) -> TrainSettings:
    chosen = {"data": "digits", "size": 16, "latent_dim": 4, "images": 960, "batch": 16, "device": "cpu", **changes}
    return TrainSettings.model_validate({"out": out, "family": family, **chosen})


@pytest.fixture(scope="module", params=FAMILIES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of each family."""
    folder = tmp_path_factory.mktemp("runs") / request.param
    train(_settings(folder, request.param))
    return folder


def _hash(run: Path) -> str:
    return hashlib.sha256((run / "weights.safetensors").read_bytes()).hexdigest()


def test_a_finished_run_holds_the_model_its_record_and_its_sheets(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {"model.json", "weights.safetensors", "run.json", "stats.jsonl", "samples-000000960.png"} <= names
    assert ("reconstructions-000000960.png" in names) == (run.name != "gan")


def test_the_record_holds_every_setting_and_the_hash_of_the_data(run: Path) -> None:
    record = read_provenance(run)
    assert TrainSettings.model_validate(record["settings"]) == _settings(run, record["settings"]["family"])
    assert (record["data"]["images"], record["data"]["held_out"]) == (1438, 359)
    assert len(record["data"]["sha256"]) == 64
    assert "torch" in record["versions"]


def test_the_stats_hold_each_loss_of_the_family(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    likelihood = {"reconstruction", "kl"}
    adversarial = {"d_adversarial", "g_adversarial", "r1", "r2"}
    expected = {"vae": likelihood, "gan": adversarial, "hybrid": likelihood | adversarial | {"adversarial_weight"}}
    assert [line["images"] for line in lines] == [320, 640, 960]
    assert all(set(line) == {"images", "images_per_s"} | expected[run.name] for line in lines)


def test_a_sheet_shows_eight_by_eight_samples(run: Path) -> None:
    with Image.open(run / "samples-000000960.png") as sheet:
        assert sheet.width == sheet.height > 8 * 16
        assert np.asarray(sheet.convert("L")).std() > 0


def test_the_same_settings_give_the_same_weights(run: Path, tmp_path: Path) -> None:
    train(_settings(tmp_path / "again", Model.load(run).family))
    assert _hash(tmp_path / "again") == _hash(run)


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    for seed in (0, 1):
        train(_settings(tmp_path / str(seed), "gan", seed=seed, images=32))
    assert _hash(tmp_path / "0") != _hash(tmp_path / "1")


def test_training_leaves_the_random_state_of_the_process_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(_settings(tmp_path / "run", "gan", images=32))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_autoencoders_prior_is_a_mixture_and_a_gans_is_not(run: Path) -> None:
    assert (Model.load(run).prior is None) == (run.name == "gan")


def test_a_conditional_model_knows_its_classes(tmp_path: Path) -> None:
    model = train(_settings(tmp_path / "run", "vae", conditional=True, images=320))
    assert model.label_names == [str(digit) for digit in range(10)]
    assert model.generate(torch.zeros(10, model.noise_dim), torch.arange(10)).shape == (10, 1, 16, 16)


def test_labels_that_the_data_does_not_have_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(4):
        Image.new("L", (16, 16)).save(tmp_path / "images" / f"{number}.png")
    with pytest.raises(TrainingError, match=r"conditional: .* no labels"):
        train(_settings(tmp_path / "run", "gan", data=str(tmp_path / "images"), conditional=True))


def test_no_adversarial_gradient_reaches_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step: E's weights are the VAE's to the last bit, however strong the adversarial part; G's are not."""
    steps = {"images": 16, "gamma": 0.0}
    vae = train(_settings(tmp_path / "vae", "vae", **steps)).state_dict()
    monkeypatch.setattr(trainer, "ADVERSARIAL_SHARE", 1000.0)
    hybrid = train(_settings(tmp_path / "hybrid", "hybrid", **steps)).state_dict()
    encoder = [name for name in vae if name.startswith("encoder.")]
    assert encoder
    assert all(torch.equal(vae[name], hybrid[name]) for name in encoder)
    assert not torch.equal(vae["generator.out.weight"], hybrid["generator.out.weight"])


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    reports: list[Progress] = []
    train(_settings(tmp_path / "run", "gan", images=650), reports.append)
    assert [report.images for report in reports] == [320, 640, 650]


def test_a_loss_that_is_not_finite_stops_the_run_and_is_named_with_its_step(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"step 19: .*reconstruction is nan"):
        train(_settings(tmp_path / "run", "vae", learning_rate=1e30))
    with pytest.raises(RunFolderError, match="not a finished run"):
        Model.load(tmp_path / "run")


def test_a_folder_that_holds_a_run_is_not_written_over(run: Path) -> None:
    before = _hash(run)
    with pytest.raises(RunFolderError, match="holds a run already"):
        train(_settings(run, "gan"))
    assert _hash(run) == before


def test_a_missing_record_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"run\.json is missing"):
        read_provenance(tmp_path)


def test_a_record_that_is_not_json_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunFolderError, match="is not JSON"):
        read_provenance(tmp_path)


@pytest.mark.parametrize(
    "changes", [{"images": 0}, {"batch": 1}, {"learning_rate": 0}, {"speed": 1}, {"device": "gpu"}]
)
def test_a_setting_out_of_its_range_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        _settings(tmp_path, "gan", **changes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="torch finds no GPU"):
        train(_settings(tmp_path / "run", "gan", device="cuda"))
