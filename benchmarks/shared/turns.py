"""Throughput and CPU of several contenders, in turns: A B C, C B A.

    contenders -> rounds of turns -> samples -> medians, and ratios within each round

A round's turns follow each other closely, so the ratios within a round suffer less from what else the machine does than
the figures do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple, Protocol

from benchmarks.shared.processes import Failed


class Span(NamedTuple):
    """warm_s of load, then window_s in which is measured, then warm_s more in which the window's requests end."""

    warm_s: float
    window_s: float

    @property
    def load_s(self) -> float:
        """Seconds that the load must last."""
        return self.window_s + 2 * self.warm_s

    def covering(self, cycle_s: float) -> "Span":
        """Long enough where answering all requests in flight once takes cycle_s at best: 2 cycles, and 4 in the window."""
        return Span(max(self.warm_s, 2 * cycle_s), max(self.window_s, 4 * cycle_s))


@dataclass(frozen=True)
class Sample:
    """One measurement; load_cpu_s is what the load's generator took beside the server, latencies are of requests."""

    images: float
    seconds: float
    cpu_s: float
    load_cpu_s: float = 0.0
    others_cpu_s: float = 0.0
    """What everything else on the machine took meanwhile: the less, the more the figures are worth."""
    p50_s: float | None = None
    p99_s: float | None = None

    @property
    def images_per_s(self) -> float:
        """Throughput."""
        return self.images / self.seconds

    @property
    def cpu_us_per_image(self) -> float:
        """CPU of the processes that are measured."""
        return self.cpu_s / self.images * 1e6


class Contender(Protocol):
    """Something that makes images for a while and says what it took."""

    name: str

    def measure(self, span: Span) -> Sample:
        """Take a turn. Raises: Failed."""


@dataclass
class Turns:
    """One contender's samples by round, None where it failed; `failure` is the last reason."""

    samples: list[Sample | None] = field(default_factory=list)
    failure: str = ""

    @property
    def good(self) -> list[Sample]:
        """The samples that there are."""
        return [sample for sample in self.samples if sample]

    def median(self, key: str) -> float:
        """Of one of a sample's figures, over the rounds that have it; NaN where none has."""
        values = [value for sample in self.good if (value := getattr(sample, key)) is not None]
        return median(values) if values else float("nan")


def take_turns(contenders: Sequence[Contender], rounds: int, span: Span) -> dict[str, Turns]:
    """Measure each contender once a round, in every other round in reverse; by name."""
    turns = {contender.name: Turns() for contender in contenders}
    for number in range(rounds):
        for contender in contenders[:: -1 if number % 2 else 1]:
            turn, sample = turns[contender.name], None
            try:
                sample = contender.measure(span)
                line = f"{sample.images_per_s:9.0f} images/s {sample.cpu_us_per_image:8.0f} us of CPU an image"
            except Failed as failure:
                turn.failure = line = str(failure)
            turn.samples.append(sample)
            print(f"  {contender.name:24}{line}", flush=True)
    return turns


def ratios(turns: Mapping[str, Turns], name: str, other: str, key: str) -> list[float]:
    """`name` over `other` in one of a sample's figures, for each round in which neither failed."""
    pairs = zip(turns[name].samples, turns[other].samples, strict=True)
    return [getattr(a, key) / getattr(b, key) for a, b in pairs if a and b]
