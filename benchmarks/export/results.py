"""Everything that one comparison found, and the ratios in it.

turns -> Results -> cpu_ratios(), best(), in_turns()
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from benchmarks.shared.machine import Machine
from benchmarks.shared.turns import Turns, ratios

SIZES = (16, 64)
"""Batch sizes that take turns in one session: the server pads to few sizes and runs whichever comes, and a runtime that
plans its memory or kernels by shape would pay."""


@dataclass(frozen=True)
class Facts:
    """About one contender; differences are to torch eager's images, in grey levels, over all batch sizes."""

    forms: dict[int, str]
    peak_bytes: int
    worst_difference: int
    mean_difference: float


@dataclass
class Results:
    """What has been measured so far.

    drift         by file of a lossy variant and measure: the part by which it is further from real images than fp32
    turns         by batch size and contender
    alternations  by contender: turns at each of SIZES by itself, then of SIZES in turns
    missing       contenders that could not be set up, started or asked: the reason
    """

    machine: Machine
    run: str
    bundle: str
    threads: int
    rounds: int
    seconds: float
    variants: dict[str, str]
    drift: dict[str, dict[str, float]]
    contenders: dict[str, Facts] = field(default_factory=dict)
    turns: dict[int, dict[str, Turns]] = field(default_factory=dict)
    alternations: dict[str, dict[str, Turns]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def cpu_ratios(self, name: str, other: str) -> dict[int, list[float]]:
        """CPU an image of `name` over that of `other`, round by round, at each batch size that both have done."""
        by_batch = {batch: turns for batch, turns in self.turns.items() if {name, other} <= turns.keys()}
        found = {batch: ratios(turns, name, other, "cpu_us_per_image") for batch, turns in by_batch.items()}
        return {batch: values for batch, values in found.items() if values}

    def best(self, other: str, names: Iterable[str]) -> dict[int, tuple[str, float]]:
        """At each batch size the one of `names` that `other` takes the most times the CPU of, and how many times."""
        best: dict[int, tuple[str, float]] = {}
        for name in names:
            for batch, values in self.cpu_ratios(other, name).items():
                best[batch] = max(best.get(batch, (name, 0.0)), (name, median(values)), key=lambda pair: pair[1])
        return best


def in_turns(turns: Mapping[str, Turns]) -> list[float]:
    """CPU of SIZES in turns by that of each of them by itself, round by round."""
    found = []
    for *alone, both in zip(*(turn.samples for turn in turns.values()), strict=True):
        expected_us = sum(size * each.cpu_us_per_image for size, each in zip(SIZES, alone, strict=True) if each)
        if both and all(alone):
            found.append(both.cpu_us_per_image * sum(SIZES) / expected_us)
    return found
