"""When the phases of a training change, and what falls or grows within them."""

import math
from typing import get_args

import pytest

from training.families import FamilyName
from training.schedule import Phase, first_adversarial_step, phase


def test_a_vae_fits_a_gan_competes_and_a_hybrid_does_one_after_the_other() -> None:
    kinds = {family: [phase(family, step, 10).is_adversarial for step in range(10)] for family in get_args(FamilyName)}
    assert kinds == {"vae": [False] * 10, "gan": [True] * 10, "hybrid": [False] * 7 + [True] * 3}


@pytest.mark.parametrize("family", get_args(FamilyName))
@pytest.mark.parametrize("steps", [1, 2, 3, 999])
def test_progress_begins_at_0_in_each_phase_and_stays_below_1(family: FamilyName, steps: int) -> None:
    change = first_adversarial_step(family, steps)
    phases = [phase(family, step, steps) for step in range(steps)]
    assert 0 <= change <= steps
    for part, length in ((phases[:change], change), (phases[change:], steps - change)):
        assert [each.progress for each in part] == [pytest.approx(step / length) for step in range(length)]


def test_the_learning_rate_falls_from_1_to_a_tenth_by_half_a_cosine() -> None:
    for progress, rate in ((0.0, 1.0), (0.25, 0.1 + 0.9 * (2 + math.sqrt(2)) / 4), (0.5, 0.55), (1.0, 0.1)):
        assert Phase(False, progress).rate == pytest.approx(rate)
        assert Phase(True, progress).rate == pytest.approx(rate)


def test_the_kl_term_grows_to_its_weight_over_the_first_tenth_of_the_first_phase() -> None:
    weights = [Phase(False, progress).kl for progress in (0.0, 0.05, 0.1, 0.5, 1.0)]
    assert weights == [0.0, pytest.approx(0.5), 1.0, 1.0, 1.0]
    assert Phase(True, 0.0).kl == 1


def test_a_weight_goes_from_its_first_to_its_last_value() -> None:
    assert [Phase(True, progress).between(2.0, 0.2) for progress in (0.0, 0.5, 1.0)] == [
        pytest.approx(2.0),
        pytest.approx(1.1),
        pytest.approx(0.2),
    ]
