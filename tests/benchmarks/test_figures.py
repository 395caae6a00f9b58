"""What the benchmarks compute from what they measured: ratios within rounds, percentiles, arrivals, slopes, tables."""

import asyncio
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.export.report import goals
from benchmarks.export.results import Results, in_turns
from benchmarks.gpu.raw import best
from benchmarks.serving import callers
from benchmarks.serving.arrivals import MEAN_IMAGES, MIX, schedule
from benchmarks.serving.bare import Shape, shapes
from benchmarks.serving.callers import Ended, Order, Outcome, closed_loop, open_loop, outcome_of
from benchmarks.serving.load import Target, replies
from benchmarks.serving.memory import slope
from benchmarks.shared.machine import Machine
from benchmarks.shared.processes import Failed
from benchmarks.shared.report import save, spread, table
from benchmarks.shared.servers import read_metrics
from benchmarks.shared.turns import Sample, Span, Turns, ratios, take_turns


class Clockwork:
    """A contender that takes what it is told to by turn; None fails."""

    def __init__(self, name: str, *cpu_s: float | None, log: list[str] | None = None) -> None:
        self.name = name
        self._cpu_s = list(cpu_s)
        self._log = log if log is not None else []

    def measure(self, span: Span) -> Sample:
        self._log.append(self.name)
        cpu_s = self._cpu_s.pop(0)
        if cpu_s is None:
            raise Failed(f"{self.name} fell over")
        return Sample(images=10, seconds=span.window_s, cpu_s=cpu_s)


def turns(*cpu_us: float | None) -> Turns:
    return Turns([None if each is None else Sample(1, 1, each / 1e6) for each in cpu_us])


def test_every_other_round_is_in_reverse():
    log: list[str] = []
    take_turns([Clockwork(name, 1, 1, 1, log=log) for name in "ABC"], rounds=3, span=Span(0, 1))
    assert "".join(log) == "ABCCBAABC"


def test_a_ratio_is_of_one_round_and_of_rounds_that_both_have_done():
    found = take_turns([Clockwork("a", 1, None, 6), Clockwork("b", 2, 5, 3)], rounds=3, span=Span(0, 2))
    assert ratios(found, "a", "b", "cpu_us_per_image") == pytest.approx([0.5, 2])
    assert ratios(found, "a", "b", "images_per_s") == [1, 1]
    assert found["a"].failure == "a fell over"
    assert found["a"].median("cpu_us_per_image") == pytest.approx(350_000)


def test_a_figure_that_no_round_has_is_not_a_number():
    assert math.isnan(turns(1, 2).median("p50_s"))
    assert math.isnan(turns(None).median("images_per_s"))


def test_a_span_covers_what_is_in_flight():
    assert Span(0.7, 3).covering(0.1) == Span(0.7, 3)
    assert Span(0.7, 3).covering(2.0) == Span(4, 8)
    assert Span(4, 8).load_s == 16


def test_arrivals_are_the_same_for_every_server_and_as_many_as_were_ordered():
    arrivals = schedule(images_per_s=2_000, seconds=50)
    assert arrivals == schedule(2_000, 50)
    moments = [at for at, _ in arrivals]
    assert all(before < after for before, after in pairwise(moments))
    assert moments[-1] < 50
    assert sum(images for _, images in arrivals) == pytest.approx(100_000, rel=0.03)


def test_arrivals_are_poisson_and_of_the_mix():
    arrivals = schedule(images_per_s=1_000 * MEAN_IMAGES, seconds=20)
    gaps = np.diff([at for at, _ in arrivals])
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)  # as exponential ones have it
    sizes = [images for _, images in arrivals]
    for images, share in MIX.items():
        assert sizes.count(images) / len(sizes) == pytest.approx(share, abs=0.02)


def ended(latencies_s: Iterable[float], failures: int = 0) -> list[Ended]:
    good = [Ended(2, 10.0, 10.0 + latency_s) for latency_s in latencies_s]
    return [*good, *[Ended(1, 10.0, 10.001, "late")] * failures]


def test_percentiles_are_those_of_all_requests_and_a_failed_one_takes_for_ever():
    latencies_s = [each / 1000 for each in range(1980, 0, -1)]
    found = outcome_of(ended(latencies_s, failures=20), late_s=[0.3, 0.1, 0.2])
    assert (found.requests, found.images, found.failures, found.failure) == (2000, 3960, 20, "late")
    assert found.p50_s == pytest.approx(1.001)
    assert found.p99_s is None  # twenty of two thousand are the last hundredth
    assert found.late_p99_s == 0.3
    assert outcome_of(ended(latencies_s, failures=19)).p99_s == pytest.approx(1.980)


def test_a_thousandth_is_told_of_a_thousand_requests_only():
    assert outcome_of(ended([0.125] * 999)).p999_s is None
    assert outcome_of(ended([0.125] * 1000)).p999_s == 0.125


def test_where_no_request_was_answered_there_are_no_percentiles():
    for found in (outcome_of([]), outcome_of(ended([], failures=2))):
        assert (found.images, found.p50_s, found.p99_s, found.p999_s) == (0, None, None, None)


def order(**more: Any) -> Order:
    return Order(1, "/x", False, {}, image_bytes=10, warm_s=0.05, seconds=0.2, **more)


def test_an_open_loop_sends_whatever_became_of_those_before():
    arrivals = [at for at, _ in schedule(400, 0.25)]

    async def send() -> Outcome:
        called, are_all_sent = [], asyncio.Event()

        async def call(images: int) -> int:
            called.append(images)
            if len(called) == len(arrivals):
                are_all_sent.set()
            await are_all_sent.wait()
            return images * 10

        return await open_loop(order(images_per_s=400), call)

    found = asyncio.run(send())
    assert (found.requests, found.failures) == (sum(at >= 0.05 for at in arrivals), 0)


def test_a_closed_loop_counts_what_is_answered_in_the_window_and_a_short_reply_is_no_answer(
    monkeypatch: pytest.MonkeyPatch,
):
    ticks = count()
    monkeypatch.setattr(callers, "time", SimpleNamespace(perf_counter=lambda: next(ticks) / 10_000))

    async def call(images: int) -> int:
        await asyncio.sleep(0)
        return 0 if images == 16 else images * 10

    found = asyncio.run(closed_loop(order(flight=4), call))
    assert 0 < found.failures < found.requests
    assert found.failure == "a reply of 0 bytes to a request for 16 images"


LOG = "1000000\t200\t500000\n1500000\t200\t1000000\n"
TARGET = Target(1, "/x", False, b"", 1, 1, reply_bytes=100)


def test_replies_count_by_the_part_of_their_time_that_lies_in_the_window():
    found = replies(LOG, "traffic: (300) data", TARGET)
    assert found.end_s.tolist() == [1.5, 2.5]
    assert found.share_within(1.25, 2.0) == pytest.approx(0.5 + 0.5)
    assert found.share_within(0, 9) == pytest.approx(2)
    assert found.within(1.5, 2.5).latency_s.tolist() == [0.5]
    assert found.percentile_s(50) == pytest.approx(0.75)
    assert math.isnan(found.within(5, 6).percentile_s(50))


@pytest.mark.parametrize(
    ("log", "summary", "told"),
    [
        ("", "(300) data", "got 0 replies with HTTP status none"),
        ("1\t200\t1\n2\t503\t1\n", "(300) data", "HTTP status 200, 503"),
        (LOG, "(20) data", "2 replies had 20 bytes, at least 136"),
    ],
)
def test_replies_that_are_no_good_ones_are_no_measurement(log: str, summary: str, told: str):
    with pytest.raises(Failed, match=told):
        replies(log, summary, TARGET)


def test_metrics_are_read_with_their_labels():
    page = '# HELP x y\nimages_total{model="a b"} 3.0\n\nups 1e3\n'
    assert read_metrics(page) == {'images_total{model="a b"}': 3, "ups": 1000}


def test_a_slope_is_bytes_a_thousand_requests():
    assert slope([0, 10_000, 20_000], [5_000, 7_000, 9_000]) == pytest.approx(200)
    assert math.isnan(slope([0], [1]))


def test_threads_are_whole_in_each_run_or_one_a_run():
    assert {(shape.callers, shape.threads) for shape in shapes(4)} == {(1, 4), (4, 1)}
    assert Shape(batch=64, callers=1, threads=1) in shapes(1)


def test_the_best_rate_is_that_of_each_size():
    assert best({"a": {1: 5.0, 4: 7.0}, "b": {1: 6.0, 4: 2.0}}, (1, 4)) == [6, 7]
    assert best({}, (1, 4)) == [0, 0]


def test_sizes_in_turns_are_compared_with_each_by_itself_in_the_same_round():
    found = {"16": turns(10, 10, None), "64": turns(5, 10, 5), "16 and 64": turns(6, 20, 1)}
    assert in_turns(found) == pytest.approx([1.0, 2.0])


@dataclass
class Figures:
    rates: dict[int, float]
    times_s: list[float | None]


def test_what_is_no_number_is_saved_as_none(tmp_path: Path):
    save(Figures({1: float("inf"), 4: 2.5}, [float("nan"), 1.0, None]), tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text()) == {
        "rates": {"1": None, "4": 2.5},
        "times_s": [None, 1.0, None],
    }


def test_tables_are_markdown():
    assert list(table(("a", "b"), [("1", spread([3, 1, 2]))])) == [
        "| a | b |",
        "|---|---|",
        "| 1 | 2.00 (1.00 to 3.00) |",
    ]
    assert spread([0.12345], digits=3) == "0.123 (0.123 to 0.123)"
    assert spread([]) == ""


def test_only_a_variant_that_draws_as_well_can_be_the_best_and_goals_are_told_by_batch_size():
    machine = Machine("", "", "", "", [], 1, 0.0, "", "", {}, "", {})
    variants = {"fp32": "fp32.onnx", "fp16": "fp16.onnx", "int8": "int8.onnx"}
    drift = {"fp16.onnx": {"fid_clf": 0.005}, "int8.onnx": {"fid_clf": 0.02}}
    found = Results(machine, "", "", 1, 3, 1.0, variants, drift)
    names = ("torch eager", "naive export", "figment fp32", "figment fp16", "figment int8")
    cpu_us = {1: (12, 9.96, 10, 5, 1), 4: (20, 8, 10, 4, 1)}
    found.turns = {batch: dict(zip(names, map(turns, each), strict=True)) for batch, each in cpu_us.items()}
    found.alternations = {"figment fp32": {"16": turns(10), "64": turns(10), "16 and 64": turns(13)}}
    assert list(goals(found)) == [
        ("fp32 never slower: naive export / fp32", ">= 1", "1.00 at 1, 0.80 at 4", "met at 1 only"),
        (
            "best variant: naive export / it",
            ">= 2",
            "1.99 (figment fp16) at 1, 2.00 (figment fp16) at 4",
            "met at 4 only",
        ),
        (
            "best variant: torch eager / it",
            ">= 3",
            "2.40 (figment fp16) at 1, 5.00 (figment fp16) at 4",
            "met at 4 only",
        ),
        ("drift of fp16.onnx", "<= 1%", "fid_clf +0.50%", "met"),
        ("drift of int8.onnx", "<= 1%", "fid_clf +2.00%", "not met"),
        ("figment fp32: 16 and 64 in turns / each by itself", "<= 1.2", "1.30", "not met"),
    ]
