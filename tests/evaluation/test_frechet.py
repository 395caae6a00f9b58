"""The Frechet distance against closed forms and a matrix square root of another make."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from evaluation.frechet import Moments, frechet_distance


def _moments(features: np.ndarray) -> Moments:
    moments = Moments(features.shape[1])
    moments.add(features)
    return moments


def _drawn(seed: int, rows: int = 500, dim: int = 8) -> np.ndarray:
    """Correlated normal draws around a mean of their own."""
    draw = np.random.default_rng(seed)
    return draw.standard_normal((rows, dim)) @ draw.standard_normal((dim, dim)) + draw.standard_normal(dim)


def _exactly(mean: np.ndarray, covariance: np.ndarray) -> Moments:
    """Moments of rows that have this mean and this covariance to rounding."""
    raw = np.random.default_rng(0).standard_normal((100, len(mean)))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T))).T
    return _moments(white @ np.linalg.cholesky(covariance).T + mean)


def test_mean_and_covariance_are_those_of_numpy():
    features = _drawn(0)
    moments = _moments(features)
    assert moments.count == 500
    np.testing.assert_allclose(moments.mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(features.T), rtol=1e-12)


def test_batches_of_any_size_give_what_one_gives():
    features = _drawn(1)
    batched = Moments(8)
    for batch in np.split(features, [0, 1, 2, 200, 500]):
        batched.add(batch)
    assert batched.count == 500
    np.testing.assert_allclose(batched.mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(batched.covariance, np.cov(features.T), rtol=1e-10)


def test_a_mean_far_from_zero_costs_no_digits():
    spread = np.random.default_rng(0).integers(-4, 5, (1000, 3)).astype(np.float64)
    far = Moments(3)
    for batch in np.split(spread + 1e9, 10):
        far.add(batch)
    np.testing.assert_allclose(far.covariance, np.cov(spread.T), rtol=1e-6)


def test_features_of_float32_are_collected_in_float64_and_stay_as_they_were():
    features = _drawn(2).astype(np.float32)
    before = features.copy()
    assert _moments(features).covariance.dtype == np.float64
    np.testing.assert_array_equal(features, before)


def test_gaussians_of_diagonal_covariance_are_as_far_as_the_closed_form_says():
    a = _exactly(np.array([1.0, 2.0, 3.0]), np.diag([1.0, 4.0, 9.0]))
    b = _exactly(np.array([1.0, 0.0, 3.5]), np.diag([4.0, 4.0, 0.25]))
    assert frechet_distance(a, b) == pytest.approx(4 + 0.25 + (1 - 2) ** 2 + 0 + (3 - 0.5) ** 2, rel=1e-10)


def test_gaussians_of_one_shape_are_as_far_as_the_closed_form_says():
    covariance = np.array([[2.0, 1.2], [1.2, 1.0]])
    a, b = _exactly(np.zeros(2), covariance), _exactly(np.array([3.0, 4.0]), 9 * covariance)
    assert frechet_distance(a, b) == pytest.approx(25 + np.trace(covariance) * (3 - 1) ** 2, rel=1e-10)


def test_equal_features_are_at_distance_zero():
    assert frechet_distance(_moments(_drawn(3)), _moments(_drawn(3))) == pytest.approx(0, abs=1e-9)


def test_the_distance_is_that_of_a_plain_matrix_square_root():
    a, b = _drawn(4), _drawn(5)
    c_a, c_b = np.cov(a.T), np.cov(b.T)
    trace = np.trace(c_a + c_b - 2 * sqrtm(c_a @ c_b).real)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + trace
    assert frechet_distance(_moments(a), _moments(b)) == pytest.approx(expected, rel=1e-8)


def test_the_distance_is_the_same_both_ways():
    a, b = _moments(_drawn(6)), _moments(_drawn(7))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)


def test_fewer_rows_than_entries_are_no_obstacle():
    few, more = _drawn(8, rows=5, dim=20), _drawn(9, rows=7, dim=20)
    assert frechet_distance(_moments(few), _moments(few)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(_moments(few), _moments(few + 2)) == pytest.approx(20 * 4, rel=1e-9)
    both = frechet_distance(_moments(few), _moments(more)), frechet_distance(_moments(more), _moments(few))
    assert both[0] == pytest.approx(both[1], rel=1e-6)


def test_features_that_do_not_vary_are_as_far_as_their_means():
    a, b = _moments(np.full((3, 2), 1.0)), _moments(np.full((4, 2), 3.0))
    assert frechet_distance(a, b) == 8
    assert frechet_distance(a, _exactly(np.ones(2), np.eye(2))) == pytest.approx(2, rel=1e-10)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (np.zeros((4, 2)), r"shape \(4, 2\), expected \(N, 3\)"),
        (np.zeros(3), r"shape \(3,\), expected \(N, 3\)"),
        (np.array([[0.0, np.nan, np.inf]]), "2 values are not finite"),
    ],
)
def test_features_that_cannot_be_used_are_refused_and_change_nothing(features: np.ndarray, words: str):
    moments = Moments(3)
    with pytest.raises(ValueError, match=words):
        moments.add(features)
    assert moments.count == 0


def test_one_row_has_no_covariance():
    with pytest.raises(ValueError, match="got 1 rows"):
        frechet_distance(_moments(np.zeros((2, 3))), _moments(np.zeros((1, 3))))


def test_features_of_different_networks_are_not_compared():
    with pytest.raises(ValueError, match="3 entries with 4"):
        frechet_distance(_moments(np.zeros((2, 3))), _moments(np.zeros((2, 4))))
