"""The seam between a training and its family: a new family is one module, and nothing else learns of it."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import pytest
from torch import Tensor

from training.families import FamilyName, family, names_where
from training.families.base import Family, Weights
from training.settings import TrainSettings
from training.trainer import train


def autoencoder_step(learner: Any, batch: Any, phase: Any) -> dict[str, Tensor]:
    """E and G by the squared error of reconstructions, without noise or a prior: a family that is none of those there."""
    mean, _ = learner.model.encoder(batch.real, batch.label)
    loss = (learner.model.generator(mean, batch.label) - batch.real).square().mean()
    learner.descend(learner.g_optimiser, loss)
    return {"error": loss}


@pytest.fixture
def plain_autoencoder(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("training.families.autoencoder")
    module.FAMILY = Family(Weights(1, 0, 0), 1.0, likelihood_step=autoencoder_step, latent_dim=6)
    monkeypatch.setitem(sys.modules, "training.families.autoencoder", module)


class Settings(TrainSettings, frozen=True):
    """Settings that know its name."""

    family: Literal["autoencoder"]  # type: ignore[assignment]


@pytest.mark.usefixtures("plain_autoencoder")
def test_a_new_family_is_trained_by_its_own_step(tmp_path: Path):
    settings = Settings.model_validate(
        {"family": "autoencoder", "data": "digits", "out": tmp_path / "run", "images": 1_600, "batch": 32, "threads": 1}
    )
    assert settings.latent_dim == 6
    model = train(settings)
    assert model.family == "autoencoder"
    assert model.encoder is not None
    first, *_, last = (tmp_path / "run" / "stats.jsonl").read_text().splitlines()
    assert '"error"' in first
    assert '"error"' in last


@pytest.mark.usefixtures("plain_autoencoder")
def test_what_a_new_family_cannot_be_asked_for_follows_from_what_it_has(tmp_path: Path):
    chosen = {"family": "autoencoder", "data": "digits", "out": tmp_path / "run", "diffaugment": True}
    with pytest.raises(ValueError, match="diffaugment: a autoencoder has no discriminator"):
        Settings.model_validate(chosen)


@pytest.mark.parametrize("name", get_args(FamilyName))
def test_a_family_has_a_step_for_each_of_its_phases(name: FamilyName):
    own = family(name)
    assert own.has_encoder or own.has_discriminator
    assert (own.likelihood_step is not None) == (own.adversarial_start > 0)
    assert (own.adversarial_step is not None) == (own.adversarial_start < 1) == own.has_discriminator


def test_families_are_listed_by_what_they_have():
    assert names_where(lambda each: each.has_encoder) == "vae, hybrid"
    assert names_where(lambda each: each.has_discriminator) == "gan, hybrid"


def test_torch_is_not_imported_to_list_families():
    code = "import sys, training.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
