"""The kernel distance beside its definition, and what it says of sets that are known."""

import numpy as np
import pytest

from evaluation import kernel_distance as module
from evaluation.kernel_distance import kernel_distance

DRAW = np.random.default_rng(0)


def _by_definition(a: np.ndarray, b: np.ndarray) -> float:
    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    def own(rows: np.ndarray) -> float:
        pairs = [kernel(rows[i], rows[j]) for i in range(len(rows)) for j in range(len(rows)) if i != j]
        return float(np.mean(pairs))

    return own(a) + own(b) - 2 * float(np.mean([kernel(x, y) for x in a for y in b]))


def test_it_is_what_the_definition_says_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch):
    a, b = DRAW.normal(0, 1, (9, 5)), DRAW.normal(0.5, 2, (13, 5))
    monkeypatch.setattr(module, "BLOCK_VALUES", 30)
    assert kernel_distance(a, b) == pytest.approx(_by_definition(a, b), rel=1e-9)


def test_it_is_nought_on_average_for_sets_of_one_distribution_however_small():
    found = [kernel_distance(DRAW.normal(size=(12, 4)), DRAW.normal(size=(12, 4))) for _ in range(300)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 300**0.5
    assert min(found) < 0 < max(found)


def test_it_grows_with_the_shift():
    a, b = DRAW.normal(size=(200, 4)), DRAW.normal(size=(200, 4))
    distances = [kernel_distance(a, b + shift) for shift in (0.0, 0.5, 1.0, 2.0)]
    assert distances == sorted(distances)


@pytest.mark.parametrize("shape", [(1, 4), (5, 3), (5,)])
def test_sets_that_cannot_be_compared_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"expected \(N, D\) and \(M, D\)"):
        kernel_distance(np.zeros(shape), np.zeros((5, 4)))
