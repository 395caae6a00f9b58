"""How many rows to run by what runs cost: choices on costs that are easy to see through, and measuring by a fake clock."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.scheduling import batch_cost as module
from server.scheduling.batch_cost import NEARLY_BEST, OVERHEAD_S, ROUNDS, BatchCost, measure

POWERS = (1, 2, 4, 8, 16, 32, 64)

Seconds = Callable[[int], float]


def each_row(rows: int) -> float:
    """A run costs 0.1 s for each row: a larger batch wins nothing."""
    return 0.1 * rows


def each_run(rows: int) -> float:
    """A run costs 0.1 s however many rows it has."""
    return 0.1


def falling(rows: int) -> float:
    """A row costs less in every larger batch."""
    return 0.1 * rows**0.5


def costs(seconds: Seconds, sizes: Sequence[int] = POWERS, *, is_padded: bool = False) -> BatchCost:
    return BatchCost(sizes, [seconds(size) for size in sizes], is_padded=is_padded)


@pytest.mark.parametrize("waiting", [1, 2, 5, 64, 999])
def test_where_a_row_always_costs_the_same_batches_are_small(waiting: int):
    assert costs(each_row).choose_batch_size(waiting, idle=0) == 1


def test_what_every_run_costs_beside_the_engine_is_shared_by_the_rows_of_a_batch():
    tiny = costs(lambda rows: 3 * OVERHEAD_S * rows)
    assert tiny.choose_batch_size(64, idle=0) == 32, "97 overheads for 32 rows is nearly as good as 193 for 64"


@pytest.mark.parametrize("cost", [falling, each_run])
@pytest.mark.parametrize(("waiting", "rows"), [(1, 1), (7, 7), (63, 63), (64, 64), (65, 64), (9999, 64)])
def test_where_rows_cost_less_together_all_that_waits_is_run(cost: Seconds, waiting: int, rows: int):
    assert costs(cost).choose_batch_size(waiting, idle=0) == rows


def test_a_batch_grows_only_while_that_lowers_the_cost_of_a_row():
    def saturated(rows: int) -> float:
        return 0.1 * max(16, rows)

    assert costs(saturated).choose_batch_size(10, idle=0) == 10
    assert costs(saturated).choose_batch_size(64, idle=0) == 16


def test_padding_counts_as_work():
    sizes = (32, 64)
    assert costs(each_row, sizes, is_padded=True).choose_batch_size(33, idle=0) == 32
    assert costs(each_run, sizes, is_padded=True).choose_batch_size(33, idle=0) == 33
    assert costs(each_row, sizes, is_padded=True).choose_batch_size(5, idle=0) == 5


def test_a_run_that_is_not_padded_costs_what_lies_between_the_sizes_measured():
    assert costs(falling, (1, 32, 64), is_padded=False).choose_batch_size(40, idle=0) == 40
    assert costs(falling, (1, 32, 64), is_padded=True).choose_batch_size(40, idle=0) == 32


def test_nearly_full_padded_batches_are_run_whole():
    assert costs(each_row, (32, 64), is_padded=True).choose_batch_size(63, idle=0) in (32, 63)
    assert costs(falling, (32, 64), is_padded=True).choose_batch_size(63, idle=0) == 63


@pytest.mark.parametrize(("waiting", "idle", "rows"), [(16, 3, 4), (17, 3, 5), (4, 3, 1), (2, 3, 1), (64, 1, 32)])
def test_idle_workers_get_equal_parts(waiting: int, idle: int, rows: int):
    assert costs(each_row).choose_batch_size(waiting, idle) == rows


def test_workers_who_take_one_after_the_other_get_equal_parts():
    waiting, parts = 30, []
    for idle in (3, 2, 1):
        parts.append(costs(each_row).choose_batch_size(waiting, idle))
        waiting -= parts[-1]
    assert [*parts, waiting] == [8, 8, 7, 7]


def test_what_is_not_worth_to_be_divided_is_not_divided():
    assert costs(each_run).choose_batch_size(16, idle=3) == 16
    assert costs(each_run, (16,), is_padded=True).choose_batch_size(16, idle=3) == 16
    assert costs(falling).choose_batch_size(16, idle=3) == 16


def test_idle_workers_are_worth_smaller_batches():
    def nearly_saturated(rows: int) -> float:
        return 0.1 * (rows + 1.5)

    assert costs(nearly_saturated).choose_batch_size(32, idle=0) == 32
    assert costs(nearly_saturated).choose_batch_size(32, idle=7) == 8


@pytest.mark.parametrize("idle", [1, 3])
def test_more_than_all_workers_can_take_at_once_is_run_in_the_largest_batches(idle: int):
    assert costs(falling).choose_batch_size(10_000, idle) == 64


def test_padding_counts_as_work_while_others_are_idle_too():
    # Two workers, 66 rows: 33 and 33 are two runs of 64, over after 6.4 s; 32 and 32, then 2, are over after 3.4 s.
    assert costs(each_row, POWERS, is_padded=True).choose_batch_size(66, idle=1) == 32


@given(
    sizes=st.sets(st.integers(2, 100), max_size=6).map(lambda sizes: [1, *sorted(sizes)]),
    data=st.data(),
    is_padded=st.booleans(),
    waiting=st.integers(1, 120),
    idle=st.sampled_from([0, 0, 0, 1, 4]),
)
@settings(max_examples=200, deadline=None, database=None)
def test_never_more_than_waits_or_fits_and_never_at_a_poor_rate(
    sizes: list[int], data: st.DataObject, is_padded: bool, waiting: int, idle: int
):
    milliseconds = data.draw(st.lists(st.integers(0, 100), min_size=len(sizes), max_size=len(sizes)))
    seconds = (np.cumsum(milliseconds) / 1000).tolist()
    chosen = BatchCost(sizes, seconds, is_padded=is_padded)
    rows = chosen.choose_batch_size(waiting, idle)
    assert 1 <= rows <= min(waiting, sizes[-1])
    asked_before = BatchCost(sizes, seconds, is_padded=is_padded)
    asked_before.choose_batch_size(waiting, 0 if idle else 1)
    assert asked_before.choose_batch_size(waiting, idle) == rows, "the answer does not depend on what was asked before"
    limit = min(sizes[-1], waiting, max(-(-waiting // (idle + 1)), chosen.preferred_batch) if idle else waiting)

    def rate(number: int) -> float:
        padded = next(size for size in sizes if size >= number) if is_padded else number
        return number / (float(np.interp(padded, sizes, seconds)) + OVERHEAD_S)

    possible = [number for number in (*sizes, limit) if number <= limit]
    best = max(map(rate, possible))
    almost = 1e-9
    assert rate(rows) >= NEARLY_BEST * best * (1 - almost)
    others = [number for number in possible if (number > rows if idle else number < rows)]
    assert all(rate(number) < NEARLY_BEST * best * (1 + almost) for number in others)


class Stopwatch:
    """Runs that take what `seconds` says by a clock of their own; remembers the sizes."""

    def __init__(self, seconds: Callable[[int, int], float]) -> None:
        self.now_s = 100.0
        self.sizes: list[int] = []
        self._seconds = seconds

    def monotonic(self) -> float:
        return self.now_s

    def run(self, size: int) -> None:
        self.now_s += self._seconds(size, self.sizes.count(size))
        self.sizes.append(size)


def measured(monkeypatch: pytest.MonkeyPatch, watch: Stopwatch, **how: float) -> BatchCost:
    monkeypatch.setattr(module, "time", watch)
    return measure(watch.run, POWERS, **{"is_padded": False, "budget_s": 1e9, **how})  # type: ignore[arg-type]


def seconds_of(result: BatchCost) -> list[float]:
    return [pytest.approx(result.seconds(size)) for size in POWERS]


def test_every_size_is_timed_in_rounds_and_the_quickest_run_counts(monkeypatch: pytest.MonkeyPatch):
    watch = Stopwatch(lambda size, before: size * (2.0 if before == 2 else 3.0))
    result = measured(monkeypatch, watch)
    assert watch.sizes == list(POWERS) * ROUNDS
    assert seconds_of(result) == [2.0 * size for size in POWERS]


def test_measuring_stops_at_its_budget(monkeypatch: pytest.MonkeyPatch):
    watch = Stopwatch(lambda size, before: float(size))
    result = measured(monkeypatch, watch, budget_s=9.0)
    assert watch.sizes == [1, 2, 4, 8], "the fourth run ends after 15 s"
    assert seconds_of(result) == [float(size) for size in POWERS]


def test_a_size_is_timed_again_only_if_that_fits_into_the_budget(monkeypatch: pytest.MonkeyPatch):
    watch = Stopwatch(lambda size, before: float(size))
    measured(monkeypatch, watch, budget_s=150.0)
    assert watch.sizes == [*POWERS, 1, 2, 4, 8, 1, 2, 4], "the first round ends after 127 s, the last run after 149 s"


def test_sizes_that_were_not_measured_cost_what_the_largest_measured_one_does_row_by_row(
    monkeypatch: pytest.MonkeyPatch,
):
    watch = Stopwatch(lambda size, before: 8.0 + size)
    result = measured(monkeypatch, watch, budget_s=20.0)
    assert watch.sizes == [1, 2, 4]
    assert seconds_of(result) == [9.0, 10.0, 12.0, 24.0, 48.0, 96.0, 192.0]


@pytest.mark.parametrize("budget_s", [0.0, 0.5])
def test_one_run_is_timed_whatever_the_budget(monkeypatch: pytest.MonkeyPatch, budget_s: float):
    watch = Stopwatch(lambda size, before: 1.0)
    result = measured(monkeypatch, watch, budget_s=budget_s)
    assert watch.sizes == [1]
    assert result.choose_batch_size(64, idle=0) == 1


@given(st.lists(st.floats(0.001, 1.0), min_size=35, max_size=35), st.floats(0, 9.0))
@settings(max_examples=50, deadline=None, database=None)
def test_measuring_takes_no_longer_than_its_budget_and_one_run(seconds: list[float], budget_s: float):
    watch = Stopwatch(lambda size, before: seconds[len(POWERS) * before + POWERS.index(size)])
    with pytest.MonkeyPatch.context() as monkeypatch:
        measured(monkeypatch, watch, budget_s=budget_s)
    assert watch.now_s - 100.0 <= budget_s + max(seconds) + 1e-9
