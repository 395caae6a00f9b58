"""What a training may be told, what follows from it, and what is refused."""

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from training.families import FamilyName
from training.settings import LEARNING_RATES, Preset, TrainSettings


def _settings(family: FamilyName = "gan", **changes: Any) -> TrainSettings:
    return TrainSettings.model_validate({"data": "digits", "out": "run", "family": family, **changes})


def test_settings_survive_the_way_through_json() -> None:
    settings = _settings("hybrid", perceptual=0.5, size=28, cache="cache")
    assert TrainSettings.model_validate_json(settings.model_dump_json()) == settings
    assert settings.cache == Path("cache")


@pytest.mark.parametrize("preset", get_args(Preset))
def test_the_learning_rate_follows_the_preset_and_is_dcgans_in_the_baseline(preset: Preset) -> None:
    assert _settings(preset=preset).learning_rate == LEARNING_RATES[preset]
    assert _settings(preset=preset, adversarial="plain").learning_rate == 2e-4
    assert _settings(preset=preset, adversarial="plain", learning_rate=0.1).learning_rate == 0.1


def test_larger_presets_learn_at_lower_rates() -> None:
    rates = [LEARNING_RATES[preset] for preset in get_args(Preset)]
    assert rates == sorted(rates, reverse=True)


def test_defaults_follow_what_was_chosen() -> None:
    assert [_settings(family).latent_dim for family in get_args(FamilyName)] == [16, 16, 20]
    assert (_settings().beta1, _settings(adversarial="plain").beta1) == (0.0, 0.5)
    assert _settings(gamma=5).final_gamma == pytest.approx(0.5)
    assert _settings(gamma=5, final_gamma=5).final_gamma == 5
    assert (_settings(images=800).sheet_every, _settings(images=3).sheet_every) == (100, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"images": 0},
        {"batch": 1},
        {"learning_rate": 0},
        {"speed": 1},
        {"device": "gpu"},
        {"preset": "huge"},
        {"gamma": -1},
        {"beta1": 1},
        {"held_out": 0},
        {"precision": "fp16"},
        {"seed": 2**63},
        {"sheet_every": 0},
        {"checkpoint_every": 0},
        {"keep_best": True, "encoder_for": "runs/gan"},
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        _settings(**changes)


@pytest.mark.parametrize(
    ("family", "changes", "allowed"),
    [
        ("gan", {"likelihood": "bernoulli"}, "vae, hybrid"),
        ("vae", {"adversarial": "plain"}, "gan"),
        ("hybrid", {"adversarial": "plain"}, "gan"),
        ("vae", {"diffaugment": True}, "gan, hybrid"),
        ("vae", {"perceptual": 1}, "hybrid"),
        ("gan", {"perceptual": 1}, "hybrid"),
    ],
)
def test_what_a_family_has_no_use_for_is_refused_with_the_families_that_have(
    family: FamilyName, changes: dict[str, object], allowed: str
) -> None:
    with pytest.raises(ValidationError, match=f"{next(iter(changes))}: .*allowed with {allowed}"):
        _settings(family, **changes)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        _settings().images = 5  # type: ignore[misc]
