"""What it costs that batch sizes take turns in one session.

    rounds of [16 again and again, 64 again and again, 16 and 64 in turns] -> CPU in turns / CPU of each by itself

The server pads to few sizes and runs whichever comes; a runtime that plans its memory or kernels by shape would pay.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.closed_loop import Turns, take_turns
from benchmarks.contenders import Span
from benchmarks.export.contender import Batches, Contender

SIZES = (16, 64)


@dataclass(frozen=True)
class Alternation:
    """One graph's CPU microseconds an image by itself, at each of SIZES, and in turns; medians, and ratios by round."""

    name: str
    fixed_us: dict[int, float]
    in_turns_us: float
    ratios: list[float]


def measure(contenders: Iterable[Contender], rounds: int, seconds: float) -> list[Alternation]:
    """Take turns on each contender; one that fails is left out."""
    found = []
    for contender in contenders:
        groups = [*((size,) for size in SIZES), SIZES]
        entries = [Batches(f"{contender.name}, {' and '.join(map(str, sizes))}", contender, sizes) for sizes in groups]
        turns = take_turns(entries, rounds, Span(0, seconds))
        *fixed, in_turns = turns.values()
        if all(turn.good for turn in turns.values()):
            fixed_us = {size: turn.cpu_us_per_image() for size, turn in zip(SIZES, fixed, strict=True)}
            found.append(Alternation(contender.name, fixed_us, in_turns.cpu_us_per_image(), _ratios(fixed, in_turns)))
    return found


def _ratios(fixed: list[Turns], in_turns: Turns) -> list[float]:
    ratios = []
    for *alone, both in zip(*(turn.samples for turn in (*fixed, in_turns)), strict=True):
        expected_us = sum(size * each.cpu_us_per_image for size, each in zip(SIZES, alone, strict=True) if each)
        if both and all(alone):
            ratios.append(both.cpu_us_per_image * sum(SIZES) / expected_us)
    return ratios
