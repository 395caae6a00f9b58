"""Whole trainings of a few steps: what they leave behind, that they repeat, and that they stop when they diverge."""

import hashlib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from training.errors import Diverged, RunFolderError, TrainingError
from training.families import FamilyName, vae
from training.model import Model
from training.objective import kl_divergence
from training.record import read_record
from training.settings import TrainSettings
from training.trainer import Progress, load_images, torch_device, train

pytestmark = pytest.mark.slow

FAMILIES = get_args(FamilyName)
ADVERSARIAL = {"d_adversarial", "g_adversarial", "r1", "r2"}


def _settings(out: Path, family: FamilyName, **changes: Any) -> TrainSettings:
    chosen = {"data": "digits", "size": 8, "latent_dim": 4, "images": 960, "batch": 16, "device": "cpu", **changes}
    return TrainSettings.model_validate({"out": out, "family": family, **chosen})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of each family."""
    folder = tmp_path_factory.mktemp("runs")
    for family in FAMILIES:
        train(_settings(folder / family, family))
    return folder


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hybrid of ten steps, three of them adversarial."""
    folder = tmp_path_factory.mktemp("short") / "run"
    train(_settings(folder, "hybrid", images=160))
    return folder


@pytest.fixture(params=FAMILIES)
def run(request: pytest.FixtureRequest, runs: Path) -> Path:
    """The finished run of one family after another."""
    return runs / str(request.param)


def _hash(run: Path) -> str:
    return hashlib.sha256((run / "weights.safetensors").read_bytes()).hexdigest()


def _stats(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]


def _terms(line: dict[str, float]) -> set[str]:
    return set(line) - {"images", "images_per_s"}


def test_a_finished_run_holds_the_model_its_record_and_its_sheets(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {"model.json", "weights.safetensors", "run.json", "stats.jsonl", "samples-000000960.png"} <= names
    assert ("reconstructions-000000960.png" in names) == (run.name != "gan")
    assert "checkpoint.safetensors" not in names


def test_the_record_holds_every_setting_and_the_hash_of_the_data(run: Path) -> None:
    record = read_record(run)
    chosen = {"adversarial": "relativistic", "latent": "vector"}  # of grey pictures
    assert record.settings == _settings(run, record.settings.family).model_copy(update=chosen)
    assert (record.data.images, record.data.held_out) == (1438, 359)
    assert len(record.data.sha256) == 64
    assert "torch" in record.versions


def test_the_stats_hold_each_loss_of_the_family_and_phase_and_no_phase_ends_unread(run: Path) -> None:
    terms = {line["images"]: _terms(line) for line in _stats(run)}
    fitting = {"reconstruction", "kl"}
    both = ADVERSARIAL | {"reconstruction", "adversarial_weight"}
    assert (
        terms
        == {
            "vae": {320: fitting, 640: fitting, 960: fitting},
            "gan": {320: ADVERSARIAL, 640: ADVERSARIAL, 960: ADVERSARIAL},
            "hybrid": {320: fitting, 640: fitting, 672: fitting, 960: both},
        }[run.name]
    )


def test_a_sheet_shows_eight_by_eight_samples(run: Path) -> None:
    with Image.open(run / "samples-000000960.png") as sheet:
        assert sheet.width == sheet.height > 8 * 8
        assert np.asarray(sheet.convert("L")).std() > 0


def test_sheets_are_drawn_once_in_every_so_many_images_and_at_the_end(tmp_path: Path) -> None:
    train(_settings(tmp_path / "run", "vae", images=650, sheet_every=200))
    for name in ("samples", "reconstructions"):
        assert sorted(path.name for path in (tmp_path / "run").glob(f"{name}-*")) == [
            f"{name}-{images:09d}.png" for images in (208, 400, 608, 650)
        ]


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
    train(_settings(tmp_path / "run", "hybrid", images=160))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_autoencoders_prior_is_a_mixture_and_a_gans_is_not(run: Path) -> None:
    assert (Model.load(run).prior is None) == (run.name == "gan")


@pytest.mark.parametrize("family", ["vae", "hybrid"])
def test_a_normal_prior_stays_the_noise_itself(family: FamilyName, tmp_path: Path) -> None:
    model = train(_settings(tmp_path / "run", family, prior="normal", images=160))
    noise = torch.randn(3, 4)
    assert model.prior is None
    assert Model.load(tmp_path / "run").noise_dim == 4
    assert torch.equal(model.latent(noise), noise)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_conditional_model_knows_its_classes(family: FamilyName, tmp_path: Path) -> None:
    model = train(_settings(tmp_path / "run", family, conditional=True, images=320))
    assert model.label_names == [str(digit) for digit in range(10)]
    images = model.generate(torch.zeros(10, model.noise_dim), torch.arange(10))
    assert images.shape == (10, 1, 8, 8)
    assert len(images.unique(dim=0)) == 10


def test_labels_that_the_data_does_not_have_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(4):
        Image.new("L", (16, 16)).save(tmp_path / "images" / f"{number}.png")
    with pytest.raises(TrainingError, match=r"conditional: .* no labels"):
        train(_settings(tmp_path / "run", "gan", data=str(tmp_path / "images"), conditional=True))


def test_a_hybrids_encoder_and_prior_are_those_of_a_vae_of_its_first_phase(runs: Path, tmp_path: Path) -> None:
    """To the last bit, so no adversarial gradient reaches them; G's weights are others."""
    train(_settings(tmp_path / "vae", "vae", images=672))
    vae, hybrid = (Model.load(folder).state_dict() for folder in (tmp_path / "vae", runs / "hybrid"))
    kept = [name for name in vae if name.startswith(("encoder.", "prior."))]
    assert any(name.startswith("prior.") for name in kept)
    assert all(torch.equal(vae[name], hybrid[name]) for name in kept)
    learned = [name for name in vae if name.startswith("generator.")]
    assert not any(torch.equal(vae[name], hybrid[name]) for name in learned)


def test_a_gaussian_models_variance_is_the_squared_error_of_its_reconstructions(runs: Path) -> None:
    model = Model.load(runs / "vae")
    assert model.encoder is not None
    images = load_images(_settings(runs / "vae", "vae"))[0].pixels()
    with torch.no_grad():
        mean, log_variance = model.encoder(images)
        latents = mean + torch.randn(mean.shape, generator=torch.Generator().manual_seed(3)) * (log_variance / 2).exp()
        error = (images - model.generator(latents)).square().mean()
    torch.testing.assert_close(model.variance, error, rtol=0.01, atol=0)


@pytest.mark.parametrize("family", ["vae", "hybrid"])
def test_a_bernoulli_model_learns_black_and_white(family: FamilyName, tmp_path: Path) -> None:
    settings = _settings(tmp_path / "run", family, likelihood="bernoulli", binarise=True, images=1920)
    seen, held_out = load_images(settings)
    train(settings)
    model = Model.load(tmp_path / "run")
    assert set(np.unique(seen.images)) == set(np.unique(held_out.images)) == {0, 255}
    assert (model.likelihood, model.variance.item()) == ("bernoulli", 1)
    losses = [line["reconstruction"] for line in _stats(tmp_path / "run")]
    assert min(losses) < 0.8 * 64 * math.log(2)  # that of a coin a pixel


def test_the_baseline_has_batch_norms_and_no_penalties(tmp_path: Path) -> None:
    model = train(_settings(tmp_path / "run", "gan", adversarial="plain", images=320))
    assert model.architecture.normalised
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in model.modules())
    assert _terms(_stats(tmp_path / "run")[-1]) == {"d_adversarial", "g_adversarial"}


@pytest.mark.parametrize(
    "changes",
    [
        {"mirror": True},
        {"diffaugment": True},
        {"perceptual": 1.0},
        {"gamma": 5.0},
        {"final_gamma": 5.0},
        {"beta1": 0.5},
        {"ema_images": 2},
        {"precision": "bf16"},
        {"preset": "small", "learning_rate": 2e-3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_setting_changes_the_weights_and_leaves_the_losses_finite(
    changes: dict[str, object], short: Path, tmp_path: Path
) -> None:
    train(_settings(tmp_path / "run", "hybrid", images=160, **changes))
    assert _hash(tmp_path / "run") != _hash(short)
    assert all(math.isfinite(value) for line in _stats(tmp_path / "run") for value in line.values())
    assert ("perceptual" in _stats(tmp_path / "run")[-1]) == ("perceptual" in changes)


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_gives_nearly_the_losses_of_single(family: FamilyName, runs: Path, tmp_path: Path) -> None:
    train(_settings(tmp_path / "run", family, precision="bf16"))
    assert all(weight.dtype == torch.float32 for weight in Model.load(tmp_path / "run").parameters())
    for half, single in zip(_stats(tmp_path / "run"), _stats(runs / family), strict=True):
        for name in _terms(single) & {"reconstruction", "d_adversarial"}:
            assert half[name] == pytest.approx(single[name], rel=0.2)


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    reports: list[Progress] = []
    train(_settings(tmp_path / "run", "gan", images=650), reports.append)
    assert [report.images for report in reports] == [320, 640, 650]
    assert all(report.total == 650 and report.images_per_s > 0 for report in reports)


def _nan_at(call: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A KL divergence that is not a number the time it is asked for after `call` others."""
    calls = iter(range(10_000))
    return lambda mean, log_variance: kl_divergence(mean, log_variance) * (math.nan if next(calls) == call else 1)


def test_a_loss_that_is_not_finite_stops_the_run_and_is_named_with_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vae, "kl_divergence", _nan_at(26))
    with pytest.raises(
        Diverged, match=r"^step 26: kl is nan: the training diverged; begin it .* lower --learning-rate, 0\.002 here"
    ):
        train(_settings(tmp_path / "run", "vae"))
    assert [line["images"] for line in _stats(tmp_path / "run")] == [320]
    with pytest.raises(RunFolderError, match="not a finished run"):
        Model.load(tmp_path / "run")


def test_a_loss_of_the_first_steps_is_read_before_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def spoilt_after_three(mean: Tensor, log_variance: Tensor) -> Tensor:
        seen.append(len(seen))
        return kl_divergence(mean, log_variance) * (math.nan if len(seen) > 3 else 1)

    monkeypatch.setattr(vae, "kl_divergence", spoilt_after_three)
    with pytest.raises(Diverged, match=r"^step 3: kl is nan"):
        train(_settings(tmp_path / "run", "vae"))
    assert seen == [0, 1, 2, 3]


def test_a_first_phase_that_ends_between_reports_is_read_before_its_prior_is_fitted(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"step [1-6]: .*reconstruction is (nan|inf)"):
        train(_settings(tmp_path / "run", "hybrid", images=160, learning_rate=1e30))


def test_weights_that_the_last_step_spoilt_give_no_model(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="prior: latents of training images are not finite"):
        train(_settings(tmp_path / "run", "vae", images=16, learning_rate=1e30))
    assert not (tmp_path / "run" / "model.json").exists()


def test_a_folder_that_holds_a_run_is_not_written_over(run: Path) -> None:
    before = _hash(run)
    with pytest.raises(RunFolderError, match="holds a run already"):
        train(_settings(run, "gan"))
    assert _hash(run) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_an_error_that_leaves_the_folder_free(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="torch finds no GPU"):
        train(_settings(tmp_path / "run", "gan", device="cuda"))
    assert not (tmp_path / "run").exists()


def test_a_gpu_beyond_those_that_are_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert torch_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(
        TrainingError, match=r"cuda:2 was asked for, but torch finds 2 GPUs; .*: auto, cpu, cuda:0, cuda:1"
    ):
        torch_device("cuda:2")


def test_tensorboard_that_is_not_there_is_an_error_that_leaves_the_folder_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(tmp_path / "run", "gan", images=32, tensorboard=True)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "torch.utils.tensorboard", None)
        with pytest.raises(TrainingError, match=r"pip install 'figment\[tensorboard\]'"):
            train(settings)
    train(settings.model_copy(update={"tensorboard": False}))


def test_tensorboard_is_given_losses_and_sheets(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(_settings(tmp_path / "run", "vae", tensorboard=True, sheet_every=480))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    written = [(event.step, event.value) for event in events.Scalars("reconstruction")]
    assert written == [(line["images"], pytest.approx(line["reconstruction"])) for line in _stats(tmp_path / "run")]
    assert [event.step for event in events.Images("samples")] == [480, 960]
