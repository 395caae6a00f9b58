"""Throughput and CPU of every contender, in turns: A B C A B C.

    contenders -> rounds of turns -> samples -> medians, and ratios within each round

A round's turns follow each other closely, so the ratios within a round suffer less from what else the machine does
than the figures do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.contenders import Contender, Sample, Span
from benchmarks.load import LoadFailed
from benchmarks.processes import StartFailed


@dataclass
class Turns:
    """One contender's samples by round, None where it failed; `failure` is the last reason."""

    samples: list[Sample | None] = field(default_factory=list)
    failure: str = ""

    @property
    def good(self) -> list[Sample]:
        """The samples that there are."""
        return [sample for sample in self.samples if sample]

    def images_per_s(self) -> float:
        """Median of the rounds."""
        return median(sample.images_per_s for sample in self.good)

    def cpu_us_per_image(self) -> float:
        """Median of the rounds."""
        return median(sample.cpu_us_per_image for sample in self.good)


def take_turns(contenders: Sequence[Contender], rounds: int, span: Span) -> dict[str, Turns]:
    """Measure each contender once a round, in every other round in reverse; by name."""
    turns = {contender.name: Turns() for contender in contenders}
    for number in range(rounds):
        for contender in contenders[:: -1 if number % 2 else 1]:
            turn = turns[contender.name]
            try:
                sample = contender.measure(span)
            except (LoadFailed, StartFailed) as failure:
                turn.failure = str(failure)
                turn.samples.append(None)
                print(f"  {contender.name}: {failure}", flush=True)
                continue
            turn.samples.append(sample)
            rate = f"{sample.images_per_s:9.0f} images/s {sample.cpu_us_per_image:8.0f} us of CPU an image"
            print(f"  {contender.name:24}{rate}", flush=True)
    return turns


def ratios(turns: dict[str, Turns], name: str, other: str) -> dict[str, list[float]]:
    """`name` over `other` round by round: images a second (more is better), CPU an image (less is better)."""
    pairs = [(a, b) for a, b in zip(turns[name].samples, turns[other].samples, strict=True) if a and b]
    return {
        "images_per_s": [a.images_per_s / b.images_per_s for a, b in pairs],
        "cpu_us_per_image": [a.cpu_us_per_image / b.cpu_us_per_image for a, b in pairs],
    }
