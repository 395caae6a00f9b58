"""The graph without any server: what onnxruntime alone does with the same threads.

graph, batch, callers, threads -> [process: run again and again] -> Sample
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.shared.processes import in_subprocess, machine_busy_s
from benchmarks.shared.session import open_session
from benchmarks.shared.timing import Took, repeat
from benchmarks.shared.turns import Sample, Span

BATCHES = (1, 4, 8, 16, 32, 64)
SEARCH_S = 0.3
WARM_S = 0.3


@dataclass(frozen=True)
class Shape:
    """How the graph is run: `callers` threads at once, each run on `threads` threads."""

    batch: int
    callers: int
    threads: int


class Bare:
    """The graph alone, each turn in a process of its own."""

    def __init__(self, file: Path, shape: Shape, name: str = "onnxruntime alone") -> None:
        self.name = name
        self._file = file
        self._shape = shape

    def measure(self, span: Span) -> Sample:
        """Run the graph for the span's window. Raises: Failed."""
        return in_subprocess(measure, None, self._file, self._shape, span.window_s)


def best_shape(file: Path, threads: int) -> Shape:
    """The way to use `threads` threads that gives most images a second. Raises: Failed."""
    return in_subprocess(_best, None, file, threads)


def shapes(threads: int) -> list[Shape]:
    """Every way that is worth trying: all threads in each run, or one a run."""
    layouts = {(1, threads), (threads, 1)}
    return [Shape(batch, callers, each) for batch, (callers, each) in product(BATCHES, sorted(layouts))]


def measure(file: Path, shape: Shape, seconds: float) -> Sample:
    """Run the graph for `seconds` in this process."""
    session = open_session(file, shape.threads)
    noise_dim = session.get_inputs()[0].shape[1]
    inputs = {"noise": np.random.default_rng(0).standard_normal((shape.batch, noise_dim), np.float32)}

    def work(seconds: float) -> Took:
        return repeat(lambda: session.run(None, inputs), seconds)

    def work_all(seconds: float) -> list[Took]:
        return list(callers.map(work, [seconds] * shape.callers))

    found: list[Took] = []
    with ThreadPoolExecutor(shape.callers) as callers:
        work_all(min(WARM_S, seconds))
        busy_s = machine_busy_s()
        whole = repeat(lambda: found.extend(work_all(seconds)), 0)
    return Sample(
        images=shape.batch * sum(each.steps for each in found),
        seconds=whole.seconds,
        cpu_s=whole.cpu_s,
        others_cpu_s=machine_busy_s() - busy_s - whole.cpu_s,
        p50_s=median(each.p50_s for each in found),
    )


def _best(file: Path, threads: int) -> Shape:
    return max(shapes(threads), key=lambda shape: measure(file, shape, SEARCH_S).images_per_s)
