"""Everything that one run of the benchmark found, saved after each part so that a run cut off loses little.

    parts -> Results -> results.json

Seconds, bytes and counts as they were measured; `report` makes the figures of the tables from them.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.bare import Shape
from benchmarks.bulk import Beside
from benchmarks.closed_loop import Turns
from benchmarks.latency import Added
from benchmarks.machine import Machine
from benchmarks.memory import Soak, Start
from benchmarks.open_loop import Point


@dataclass
class Closed:
    """The closed loop of one workload."""

    graph: str
    images: int
    window_s: float
    alone: Shape
    """How the graph alone gives most images a second."""
    turns: dict[str, Turns]


@dataclass
class Results:
    """What is known so far."""

    machine: Machine
    threads: int
    options: dict[str, str]
    """Figment's further options, by the name in the tables."""
    closed: list[Closed] = field(default_factory=list)
    single: list[Added] = field(default_factory=list)
    capacities: dict[str, float] = field(default_factory=dict)
    """Figment's images a second for the mix of sizes, by graph."""
    open: list[Point] = field(default_factory=list)
    bulk: list[Beside] = field(default_factory=list)
    start: Start | None = None
    soak: Soak | None = None
    idle_cores: dict[str, float] = field(default_factory=dict)
    """What each server takes while nobody calls."""
    missing: dict[str, str] = field(default_factory=dict)
    """Servers that could not be set up or started, and parts that failed: the reason."""

    def save(self, path: Path) -> None:
        """Write JSON; figures that are not numbers become null."""
        path.write_text(json.dumps(_plain(asdict(self)), indent=1) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
