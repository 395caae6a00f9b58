"""The phase of each step, by images and by the clock."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from training.length import MAP_START, Length
from training.schedule import Phase
from training.settings import TrainSettings


def _settings(**changes: Any) -> TrainSettings:
    chosen = {"data": "x", "family": "hybrid", "out": Path("run"), "adversarial": "relativistic", "latent": "vector"}
    return TrainSettings.model_validate(chosen | changes)


def test_by_images_the_clock_says_nothing() -> None:
    length = Length(_settings(images=640, batch=64))
    assert length.phase(0, 0.0) == length.phase(0, 1e9) == Phase(False, 0.0)
    assert length.phase(7, 0.0) == Phase(True, 0.0)
    assert length.phase(9, 0.0) == Phase(True, 2 / 3)
    assert length.phase(10, 0.0) is None
    assert length.total(64, 1.0) == 640


def test_by_the_clock_images_say_nothing() -> None:
    length = Length(_settings(minutes=10, latent="map", adversarial="features"))
    assert length.phase(0, 0.0) == length.phase(10**6, 0.0) == Phase(False, 0.0)
    halfway = length.phase(5, 600 * MAP_START / 2)
    assert halfway is not None
    assert (halfway.is_adversarial, halfway.progress) == (False, pytest.approx(0.5))
    assert length.phase(5, 600 * MAP_START) == Phase(True, 0.0)
    assert length.phase(5, 600.0) is None
    assert length.total(100, 60.0) == 1000


@pytest.mark.parametrize(("family", "start"), [("vae", 1.0), ("gan", 0.0)])
def test_a_family_of_one_phase_has_it_to_the_end(family: str, start: float) -> None:
    length = Length(_settings(family=family, minutes=1))
    assert length.start == start
    for spent_s in (0.0, 30.0, 59.0):
        now = length.phase(3, spent_s)
        assert now is not None
        assert now.is_adversarial == (family == "gan")
        assert now.progress == pytest.approx(spent_s / 60)
    assert length.share(family == "vae") == 0


def test_steps_of_a_phase_are_counted_or_timed() -> None:
    by_images = Length(_settings(images=640, batch=64))
    assert (by_images.steps(False, 9.0), by_images.steps(True, 9.0)) == (7, 3)
    by_clock = Length(_settings(minutes=1))
    assert by_clock.steps(False, 0.5) == round(0.7 * 120)


def test_images_and_minutes_are_not_both_the_length() -> None:
    with pytest.raises(ValidationError, match="minutes: got 5 with images 640; one of the two is the length"):
        _settings(minutes=5, images=640)
    with pytest.raises(ValidationError, match="minutes"):
        _settings(minutes=0)
