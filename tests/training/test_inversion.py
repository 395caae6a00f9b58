"""An encoder that is learned for a finished GAN: what it learns, what stays as it was, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from evaluation.reconstruction import psnr_db
from export.evaluated_models import TrainedModel
from figment.cli.command import Entry, main
from training.command import Train
from training.errors import DataError, Stopped, TrainingError
from training.inversion import taken_over
from training.outcome import read_run
from training.record import read_record
from training.settings import TrainSettings
from training.trainer import load_images, resume, train

pytestmark = pytest.mark.slow

CHOSEN = {"data": "digits", "size": 8, "latent_dim": 4, "images": 1600, "batch": 16, "device": "cpu"}

GANS: dict[str, dict[str, Any]] = {
    "gan": {"held_out": 0.3, "seed": 3, "mirror": True},
    "labelled": {"conditional": True, "images": 32},
    "plain": {"adversarial": "plain", "images": 32},
}


def _trained(out: Path, **changes: Any) -> Path:
    train(TrainSettings.model_validate(CHOSEN | {"out": out, "family": "gan", "sheet_every": 10_000} | changes))
    return out


def _settings(run: Path, out: Path, **changes: Any) -> TrainSettings:
    own = {"encoder_for": run, "out": out, "batch": 16, "device": "cpu", "images": 320, "sheet_every": 100}
    return TrainSettings.model_validate(taken_over(run) | own | changes)


def _find(verb: str) -> Entry:
    return SimpleNamespace(load=lambda: Train)


@pytest.fixture(scope="module")
def gans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gans")
    for name, changes in GANS.items():
        _trained(folder / name, **changes)
    return folder


@pytest.fixture(scope="module")
def inverse(gans: Path) -> Path:
    """Of "gan", with an encoder that learned for some seconds."""
    train(_settings(gans / "gan", gans / "inverse", images=4800, batch=64))
    return gans / "inverse"


def test_the_generator_stays_as_it_is(gans: Path, inverse: Path, tmp_path: Path) -> None:
    train(_settings(gans / "plain", tmp_path / "plain", images=32))  # has batch norms, whose statistics are no weights
    for gan, run in ((gans / "gan", inverse), (gans / "plain", tmp_path / "plain")):
        before, after = (load_file(each / "weights.safetensors") for each in (gan, run))
        assert {name for name in after if name not in before} == {name for name in after if name.startswith("encoder.")}
        assert all(torch.equal(weight, after[name]) for name, weight in before.items())


@torch.inference_mode()
def test_latents_of_samples_are_found_as_nearly_as_the_encoder_says(inverse: Path) -> None:
    model = read_run(inverse).model
    latents = torch.randn(500, 4, generator=torch.Generator().manual_seed(1))
    assert model.encoder is not None
    mean, log_variance = model.encoder(model.generate(latents))
    errors = (mean - latents).square()
    assert float(errors.mean()) < 0.5  # 1, that of knowing nothing
    assert 0.7 < float((errors / log_variance.exp()).mean()) < 1.5


def test_held_out_pictures_come_back_as_the_run_tells(inverse: Path) -> None:
    found = read_run(inverse)
    model, record = found.model, found.record
    _, held_out = load_images(record.settings)
    judged = TrainedModel(model, "inverse")
    rebuilt = judged.decode(judged.encode(held_out.images, None)[0], None)
    assert model.inverse_psnr_db == pytest.approx(psnr_db(held_out.images, rebuilt), abs=1e-3)
    other = np.roll(held_out.images, 1, axis=0)
    assert model.inverse_psnr_db is not None
    assert model.inverse_psnr_db > psnr_db(held_out.images, other) + 1
    assert sorted(path.name for path in inverse.glob("reconstructions-*.png"))[-1] == "reconstructions-000004800.png"


def test_an_inverse_bounds_no_likelihood(inverse: Path) -> None:
    found = read_run(inverse)
    model, record = found.model, found.record
    _, held_out = load_images(record.settings)
    assert TrainedModel(model, "inverse").bound(held_out.images[:2], None, draws=2, seed=0) is None


def test_what_was_held_out_of_the_gans_training_is_held_out_of_the_encoders(gans: Path, inverse: Path) -> None:
    before, after = read_record(gans / "gan"), read_record(inverse)
    assert after.data == before.data
    assert (after.settings.seed, after.settings.mirror, after.settings.learning_rate) == (3, True, 2e-3)
    assert after.finished is not None
    assert (after.finished.run, after.finished.images, after.finished.record) == ("gan", 1600, before)


def test_a_stopped_training_of_an_encoder_goes_on_to_the_last_bit(gans: Path, tmp_path: Path) -> None:
    train(_settings(gans / "plain", tmp_path / "whole", images=160))
    asked = iter([False] * 4)
    with pytest.raises(Stopped, match="to continue: figment resume"):
        train(_settings(gans / "plain", tmp_path / "run", images=160), is_stopped=lambda: next(asked, True))
    resume(tmp_path / "run")
    for file in ("weights.safetensors", "model.json", "reconstructions-000000160.png"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_what_is_to_be_said_of_the_gan_is_said_of_its_inverse(gans: Path, tmp_path: Path) -> None:
    gan = gans / "labelled" / "run.json"
    before = gan.read_text()
    gan.write_text(json.dumps(json.loads(before) | {"notices": ["trained on my own drawings; license: CC0"]}))
    train(_settings(gans / "labelled", tmp_path / "run", images=16))
    gan.write_text(before)
    assert read_record(tmp_path / "run").notices == ("trained on my own drawings; license: CC0",)


def test_the_command_line_needs_the_run_alone(gans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", f"--encoder-for={gans / 'labelled'}", f"--out={tmp_path / 'run'}", "--images=64"]
    assert main([*arguments, "--dry-run"], _find) == 0
    told = capsys.readouterr().out
    assert "encoder: " in told
    assert "discriminator" not in told
    assert "encoder phase: 1 steps of 64 images" in told
    assert main(arguments, _find) == 0
    found = read_run(tmp_path / "run")
    model, record = found.model, found.record
    assert (record.settings.data, record.settings.conditional, model.architecture.labels) == ("digits", True, 10)


def _autoencoder(folder: Path) -> Path:
    return _trained(folder / "vae", family="vae", images=32)


def _unfinished(folder: Path) -> Path:
    with pytest.raises(Stopped):
        train(TrainSettings.model_validate(CHOSEN | {"out": folder / "half", "family": "gan"}), is_stopped=lambda: True)
    return folder / "half"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            _autoencoder,
            "encoder_for: {run} has an encoder, learned with it, as in any vae; allowed is a finished run of a gan",
        ),
        (_unfinished, "{run} is not a finished run: 16 of 1,600 images; to continue: figment resume {run}"),
        (lambda folder: folder / "nowhere", "{run} is not a run: there is no such folder"),
    ],
)
def test_a_run_that_is_no_finished_gan_is_told_before_any_work(
    made: Callable[[Path], Path], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made(tmp_path)
    assert main(["train", f"--encoder-for={run}", f"--out={tmp_path / 'out'}"], _find) == 2
    assert capsys.readouterr().err == f"figment train: {message.format(run=run)}\n"
    assert not (tmp_path / "out").exists()


def test_a_gan_that_has_an_encoder_gets_no_other(inverse: Path) -> None:
    with pytest.raises(TrainingError, match="has an encoder, learned for it already"):
        taken_over(inverse)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "small"}, "preset: got small with encoder_for .*; allowed is its tiny"),
        ({"size": 16}, "size: got 16 with encoder_for .*; allowed is its 8"),
        ({"family": "hybrid"}, "family: got hybrid with encoder_for .*; allowed is its gan"),
        ({"held_out": 0.5}, r"held_out: got 0\.5 with encoder_for .*; allowed is its 0\.3"),
    ],
)
def test_settings_that_are_the_gans_cannot_be_others(
    changes: dict[str, Any], message: str, gans: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=message):
        train(_settings(gans / "gan", tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        ("gan", "RGB", r"has images of \(8, 8, 3\), .*gan draws \(8, 8, 1\)"),
        ("labelled", "L", "has the classes one, two, .*labelled draws 0, 1, 2, 3, 4, 5, 6, 7, 8, 9$"),
    ],
)
def test_pictures_that_the_gan_does_not_draw_are_refused(
    name: str, mode: str, message: str, gans: Path, tmp_path: Path
) -> None:
    for label in ("one", "two"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(4):
            Image.effect_noise((8, 8), 50).convert(mode).save(tmp_path / "pictures" / label / f"{number}.png")
    with pytest.raises(DataError, match=message):
        train(_settings(gans / name, tmp_path / "run", data=str(tmp_path / "pictures")))
