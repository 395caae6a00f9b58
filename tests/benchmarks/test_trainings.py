"""Training benchmarks: nothing is trained twice or passed off as something else, and what diverges is an outcome too."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.training import families, jobs
from benchmarks.training.jobs import Job, OtherSettings, Outcome, outcomes, trained
from training.checkpoint import FILE
from training.errors import Stopped
from training.settings import TrainSettings
from training.trainer import train

pytestmark = pytest.mark.slow

SMALL = {"size": 16, "latent_dim": 4, "images": 640, "batch": 32}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Namespace:
    monkeypatch.setattr(jobs, "ProcessPoolExecutor", _Here)
    monkeypatch.setattr(jobs, "judge", lambda data, test, seed: _Judge())
    return Namespace(data="digits", test="digits", out=tmp_path, device="cpu", workers=2)


class _Here:
    """A pool of processes without processes."""

    def __init__(self, workers: int, mp_context: Any) -> None: ...
    def __enter__(self) -> "_Here":
        return self

    def __exit__(self, *error: object) -> None: ...
    def submit(self, function: Any, *arguments: Any) -> "_Done":
        return _Done(function(*arguments))


class _Done:
    def __init__(self, value: Outcome) -> None:
        self.result = lambda: value


class _Judge:
    def score_samples(self, model: Any) -> dict[str, float]:
        return {"noise_dim": float(model.noise_dim)}


def test_a_job_is_trained_judged_and_kept(asked: Namespace):
    job = Job("vae", {"family": "vae", **SMALL}, is_quick=True)
    first = outcomes([job], asked)["vae"]
    assert first.figures == {"noise_dim": 5}
    assert first.minutes > 0
    assert not first.error
    (asked.out / "vae" / "model.json").unlink()  # whoever trained again would stumble over it
    assert outcomes([job], asked) == {"vae": first}


def test_a_training_that_diverges_is_an_outcome(asked: Namespace):
    found = outcomes([Job("bad", {"family": "vae", "learning_rate": 1e30, **SMALL}, is_quick=True)], asked)["bad"]
    assert "reconstruction is nan" in found.error
    assert found.figures == {}


def test_a_training_that_was_cut_off_goes_on(tmp_path: Path):
    settings = TrainSettings.model_validate({"data": "digits", "family": "gan", "out": tmp_path / "run", **SMALL})
    with pytest.raises(Stopped):
        train(settings, is_stopped=lambda: True)
    assert (tmp_path / "run" / FILE).is_file()
    assert trained(settings).family == "gan"
    assert not (tmp_path / "run" / FILE).exists()


def test_a_training_that_was_killed_before_its_first_checkpoint_begins_anew(tmp_path: Path):
    settings = TrainSettings.model_validate({"data": "digits", "family": "gan", "out": tmp_path / "run", **SMALL})

    def kill(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, kill)
    assert (tmp_path / "run" / "run.json").is_file()
    assert trained(settings).family == "gan"


def test_an_outcome_of_other_settings_is_refused(asked: Namespace):
    outcomes([Job("vae", {"family": "vae", **SMALL}, is_quick=True)], asked)
    with pytest.raises(OtherSettings, match="vae was begun with other images"):
        outcomes([Job("vae", {"family": "vae", **SMALL, "images": 320}, is_quick=True)], asked)


def test_a_family_that_diverged_leaves_the_goals_of_the_others():
    keys = ("fid_clf", "detail", "coverage", "reconstruction_psnr_db", "probe_accuracy")
    fine = Outcome("fine", figures=dict.fromkeys(keys, 1.0), normal={"fid_clf": 4.0})
    found = {name: [fine] * 3 for name in families.FAMILIES} | {"gan": [fine, fine, Outcome("gan-2", error="diverged")]}
    lines = list(families._goals(found))
    assert lines[3] == "| VAE's fid_clf, mixture by N(0, I) | at most 0.35 | 0.250 (0.250 to 0.250) | 3 of 3 |"
    assert lines[4] == "| detail, GAN | 0.95 to 1.05 | 1.000 (1.000 to 1.000) | 2 of 3 |"
