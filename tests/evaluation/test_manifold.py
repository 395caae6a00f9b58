"""Precision, recall, density and coverage of sets whose neighbourhoods are known."""

from dataclasses import astuple

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from evaluation import prdc as module
from evaluation.prdc import prdc


def _oracle(real: np.ndarray, drawn: np.ndarray, k: int) -> tuple[float, ...]:
    """The definitions, row by row, in float64."""

    def radius(row: np.ndarray, rows: np.ndarray) -> float:
        return sorted(np.linalg.norm(rows - row, axis=1))[k]  # the first is the row itself

    real_balls, drawn_balls = ([(row, radius(row, rows)) for row in rows] for rows in (real, drawn))

    def holds(ball: tuple[np.ndarray, float], row: np.ndarray) -> bool:
        return bool(np.linalg.norm(ball[0] - row) <= ball[1])

    precision = np.mean([any(holds(ball, row) for ball in real_balls) for row in drawn])
    recall = np.mean([any(holds(ball, row) for ball in drawn_balls) for row in real])
    density = np.mean([sum(holds(ball, row) for ball in real_balls) for row in drawn]) / k
    coverage = np.mean([any(holds(ball, row) for row in drawn) for ball in real_balls])
    return precision, recall, density, coverage


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("far", [0, 1000])
def test_blocks_of_float32_say_what_the_definitions_do(k: int, far: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BLOCK_VALUES", 500)
    real, drawn = _normal(1, 70, 6) + far, 1.2 * _normal(2, 50, 6) + 0.3 + far
    assert astuple(prdc(real, drawn, k)) == pytest.approx(_oracle(real, drawn, k))


@pytest.mark.slow
def test_two_sets_of_one_gaussian_give_the_published_figures():
    real, drawn = np.random.default_rng(5).standard_normal((2, 10_000, 1000), np.float32)
    found = prdc(real, drawn, k=5)
    # As published with density and coverage (Naeem et al. 2020). Other draws move them by so much.
    assert found.precision == pytest.approx(0.4772, abs=0.03)
    assert found.recall == pytest.approx(0.4705, abs=0.03)
    assert found.density == pytest.approx(1.0555, abs=0.1)
    assert found.coverage == pytest.approx(0.9735, abs=0.01)


@pytest.mark.parametrize("k", [2, 5])
def test_density_and_coverage_of_one_distribution_are_known_whatever_it_is(k: int):
    n, draw = 500, np.random.default_rng(3)
    found = [astuple(prdc(*draw.exponential(size=(2, n, 4)), k)) for _ in range(100)]
    _, _, density, coverage = np.mean(found, axis=0)
    uncovered = np.prod([(n - i) / (2 * n - i) for i in range(1, k + 1)])  # Naeem et al. 2020, lemma 2
    assert density == pytest.approx(1, abs=0.01)
    assert coverage == pytest.approx(1 - uncovered, abs=0.01)


def test_a_set_is_in_its_own_neighbourhood():
    rows = _normal(4, 200, 8)
    found = prdc(rows, rows)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert 1 <= found.density <= 1.2  # a ball holds its centre and k neighbours, the last on its surface


def test_sets_that_do_not_meet_share_nothing():
    assert astuple(prdc(_normal(1, 60, 3), _normal(2, 60, 3) + 50)) == (0, 0, 0, 0)


def test_a_model_that_draws_one_of_two_kinds_is_precise_and_covers_half():
    kinds = [_normal(seed, 300, 5) + offset for seed, offset in ((1, 0), (2, 40))]
    found = prdc(np.concatenate(kinds), _normal(3, 300, 5))
    assert found.precision > 0.85
    assert found.recall < 0.5
    assert 0.4 < found.coverage <= 0.5


def test_one_outlier_lifts_precision_and_not_density():
    real = np.concatenate([_normal(1, 500, 2), [[30.0, 0.0]]])
    drawn = np.concatenate([_normal(2, 250, 2), _normal(3, 250, 2) + np.array([25, 0])])
    found = prdc(real, drawn)
    assert found.precision > 0.95
    assert found.density < 0.65


def test_squared_distances_agree_with_scipy():
    rows = _normal(6, 40, 3).astype(np.float32)
    [(_, squares)] = module._distances(rows, rows)
    np.testing.assert_allclose(squares, cdist(rows, rows) ** 2, atol=1e-5)


@pytest.mark.parametrize(
    ("real", "drawn", "k", "words"),
    [
        (np.zeros((5, 2)), np.zeros((9, 2)), 5, "5 real and 9 drawn rows and k = 5"),
        (np.zeros((9, 2)), np.zeros((0, 2)), 5, "9 real and 0 drawn"),
        (np.zeros((9, 2)), np.zeros((9, 2)), 0, "k = 0"),
        (np.zeros((9, 2)), np.zeros((9, 3)), 5, r"\(9, 2\) and \(9, 3\)"),
        (np.zeros(9), np.zeros((9, 3)), 5, r"\(9,\)"),
        (np.full((9, 2), np.nan), np.zeros((9, 2)), 5, "finite"),
    ],
)
def test_sets_without_neighbourhoods_are_refused(real: np.ndarray, drawn: np.ndarray, k: int, words: str):
    with pytest.raises(ValueError, match=words):
        prdc(real, drawn, k)
