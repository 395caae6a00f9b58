"""Histograms of classes whose divergence can be worked out by hand."""

import math

import numpy as np
import pytest
from scipy.stats import entropy

from evaluation.classes import class_histogram


def test_equal_shares_have_no_divergence():
    found = class_histogram(np.array([0, 1, 1, 2, 1, 0, 1, 1]), np.array([20, 50, 10]))
    assert found.counts.tolist() == [2, 5, 1]
    assert found.counts.dtype == np.int64
    assert found.missing == []
    assert found.kl_nats == pytest.approx(0, abs=1e-12)


def test_a_model_that_draws_one_of_ten_diverges_by_log_ten():
    found = class_histogram(np.full(7, 3), np.full(10, 100))
    assert found.missing == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert found.kl_nats == pytest.approx(math.log(10))


@pytest.mark.parametrize("scale", [1, 1000, 1e-3])
def test_the_divergence_is_that_of_drawn_from_reference_whatever_the_sums(scale: float):
    drawn, reference = np.array([6, 0, 3, 1]), np.array([1.0, 2, 3, 4])
    found = class_histogram(np.repeat(np.arange(4), drawn), reference * scale)
    assert found.kl_nats == pytest.approx(entropy(drawn, reference))


def test_a_thousand_classes_of_stacked_digits_are_counted():
    drawn = np.random.default_rng(0).integers(0, 1000, 25_600)
    found = class_histogram(drawn, np.ones(1000))
    assert found.missing == []
    assert found.counts.sum() == 25_600
    assert found.kl_nats == pytest.approx(999 / (2 * 25_600), rel=0.2)  # chance alone: a chi-squared of 999 degrees


@pytest.mark.parametrize(
    ("predicted", "reference", "words"),
    [
        ([0, 1], [1, 0, 2, 0], r"those of \[1, 3\] are not"),
        ([0, 1], [1, math.nan], r"those of \[1\] are not"),
        ([0, 2], [1, 1], "got 0 to 2, expected 0 to 1"),
        ([-1, 1], [1, 1], "got -1 to 1"),
        ([0.0], [1, 1], r"got float64 \(1,\)"),
        ([[0]], [1, 1], r"\(1, 1\)"),
        ([], [1, 1], "N > 0"),
        ([0], [], r"reference counts of shape \(0,\)"),
    ],
)
def test_what_cannot_be_counted_is_refused(predicted: list, reference: list[float], words: str):
    with pytest.raises(ValueError, match=words):
        class_histogram(np.array(predicted), np.array(reference))
