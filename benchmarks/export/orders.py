"""A contender's process: it holds one way to draw images and does what the lines on stdin order.

    {"order": "run", "batches": [16], "seconds": 1} -> Drawer -> {"images": ..., "cpu_s": ...}

    warm   batch               get ready for batches of this size; answers the form that was chosen, if there are several
    draw   batch, file         draw that many images into a .npy file
    run    batches, seconds    draw batches of these sizes in turns; answers what it took

An order and its answer are a line of JSON each. Linux only. Knows numpy, because peers have environments of their own.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Inputs = dict[str, npt.NDArray[Any]]
"""noise (N, Z) float32 [, label (N,) int64]."""


class Drawer(Protocol):
    """One way to draw."""

    def warm(self, inputs: Inputs) -> str:
        """Get ready for batches as large as `inputs`; returns the form that was chosen, "" where there is one only."""

    def draw(self, inputs: Inputs) -> npt.NDArray[np.uint8]:
        """Images (N, H, W, C) uint8, in one piece of memory."""


@dataclass(frozen=True)
class Took:
    """What a while of drawing took; CPU of all threads of the process."""

    images: int
    seconds: float
    cpu_s: float
    run_p50_s: float
    peak_bytes: int
    """Largest resident memory since the process began."""


def measure(drawer: Drawer, batches: Sequence[Inputs], seconds: float) -> Took:
    """Draw the batches in turns, each at least once, until `seconds` are over."""
    runs_s: list[float] = []
    images = 0
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    before_s = started_s
    while not runs_s or before_s - started_s < seconds:
        for inputs in batches:
            drawer.draw(inputs)
            now_s = time.perf_counter()
            runs_s.append(now_s - before_s)
            images += len(inputs["noise"])
            before_s = now_s
    cpu_s = time.process_time() - started_cpu_s
    return Took(images, before_s - started_s, cpu_s, float(np.median(runs_s)), _peak_bytes())


def obey(make: Callable[[dict[str, Any]], Drawer]) -> None:
    """Make the drawer from the settings in sys.argv[1], which name a file "inputs", and do orders until stdin ends."""
    # Whatever a library prints belongs to the log, which is where stderr goes.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    settings = json.loads(sys.argv[1])
    known = dict(np.load(settings["inputs"]))
    drawer = make(settings)

    def rows(batch: int) -> Inputs:
        return {name: array[:batch] for name, array in known.items()}

    for line in sys.stdin:
        answer: dict[str, Any]
        match json.loads(line):
            case {"order": "warm", "batch": batch}:
                answer = {"form": drawer.warm(rows(batch))}
            case {"order": "draw", "batch": batch, "file": file}:
                np.save(file, drawer.draw(rows(batch)))
                answer = {}
            case {"order": "run", "batches": batches, "seconds": seconds}:
                answer = asdict(measure(drawer, [rows(batch) for batch in batches], seconds))
            case order:
                raise ValueError(f"no such order: {order}")
        answers.write(json.dumps(answer) + "\n")


def _peak_bytes() -> int:
    """Of what the program took itself; ru_maxrss begins with what the process that started it had."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
