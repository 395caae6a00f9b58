"""What the figures say to the goals of the export.

    Results -> goal lines: what, goal, measured, met or not

Ratios are of CPU an image, medians of the rounds, rounded to a hundredth: the rounds differ by more than that.
"""

from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from benchmarks.export.alternation import SIZES
from benchmarks.export.line_up import EAGER, NAIVE, figment
from benchmarks.export.results import Results

BY_NAIVE, BY_EAGER = 2.0, 3.0
MOST_DRIFT = 0.01
MOST_IN_TURNS = 1.2


class Goal(NamedTuple):
    """One line."""

    what: str
    goal: str
    measured: str
    verdict: str


def goals(results: Results) -> Iterator[Goal]:
    """All goals, line by line."""
    ours = [figment(variant) for variant, file in results.variants.items() if _is_close(results.drift.get(file, {}))]
    by_naive = results.cpu_ratios(NAIVE, figment("fp32"))
    never_slower = {batch: ("", median(values)) for batch, values in by_naive.items()}
    yield _at_each("fp32 never slower: naive export / fp32", 1.0, never_slower)
    yield _at_each("best variant: naive export / it", BY_NAIVE, results.best(NAIVE, ours))
    yield _at_each("best variant: torch eager / it", BY_EAGER, results.best(EAGER, ours))
    for file, drift in results.drift.items():
        measured = ", ".join(f"{measure} {value:+.2%}" for measure, value in drift.items())
        verdict = _verdict(_is_close(drift)) if drift else "unknown"
        yield Goal(f"drift of {file}", f"<= {MOST_DRIFT:.0%}", measured, verdict)
    for alternation in results.alternations:
        what = f"{alternation.name}: {SIZES[0]} and {SIZES[1]} in turns / each by itself"
        ratio = round(median(alternation.ratios), 2)
        yield Goal(what, f"<= {MOST_IN_TURNS}", f"{ratio:.2f}", _verdict(ratio <= MOST_IN_TURNS))


def _at_each(what: str, least: float, found: dict[int, tuple[str, float]]) -> Goal:
    """A ratio that must reach `least` at every batch size."""
    measured = ", ".join(
        f"{ratio:.2f}{f' ({name})' if name else ''} at {batch}" for batch, (name, ratio) in found.items()
    )
    met = [batch for batch, (_, ratio) in found.items() if round(ratio, 2) >= least]
    if not found:
        verdict = "unknown"
    elif 0 < len(met) < len(found):
        verdict = f"met at {', '.join(map(str, met))} only"
    else:
        verdict = _verdict(bool(met))
    return Goal(what, f">= {least:g}", measured, verdict)


def _is_close(drift: dict[str, float]) -> bool:
    """Whether a variant's images are as good as the fp32 graph's; only such a variant can be the best."""
    return all(abs(each) <= MOST_DRIFT for each in drift.values())


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "not met"
