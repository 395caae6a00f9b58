"""A contender's process: it holds one way to draw images, in one or more forms, and does what the lines on stdin order.

    settings -> make() -> forms -> warm: the quickest at this batch size -> run -> what it took

    warm   batch               get ready for batches of this size; answers the form that was chosen
    draw   batch, file         draw that many images into a .npy file
    run    batches, seconds    draw batches of these sizes in turns; answers what it took

An order and its answer are a line of JSON each. Linux only. Knows numpy, because peers have environments of their own.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.shared.timing import repeat

WARM_TURNS = 3
WARM_S = 0.25
"""Each of several forms is tried in that many turns of that many seconds; the one with the least CPU in any is kept."""

Inputs = dict[str, npt.NDArray[Any]]
"""noise (N, Z) float32 [, label (N,) int64]."""

Draw = Callable[[Inputs], npt.NDArray[np.uint8]]
"""Images (N, H, W, C) uint8, in one piece of memory."""


def obey(make: Callable[[dict[str, Any]], dict[str, Draw]]) -> None:
    """Make the forms from the settings in sys.argv[1], which name a file "inputs", and do orders until stdin ends."""
    # Whatever a library prints belongs to the log, which is where stderr goes.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    settings = json.loads(sys.argv[1])
    arrays = dict(np.load(settings["inputs"]))
    forms, chosen = make(settings), dict[int, str]()
    first = next(iter(forms))

    def ready(batch: int) -> tuple[Draw, Inputs]:
        return forms[chosen.get(batch, first)], {name: array[:batch] for name, array in arrays.items()}

    for line in sys.stdin:
        answer: dict[str, Any] = {}
        match json.loads(line):
            case {"order": "warm", "batch": batch}:
                chosen[batch] = quickest(forms, ready(batch)[1])
                answer = {"form": chosen[batch]}
            case {"order": "draw", "batch": batch, "file": file}:
                draw, inputs = ready(batch)
                np.save(file, draw(inputs))
            case {"order": "run", "batches": batches, "seconds": seconds}:
                turns = [ready(batch) for batch in batches]
                took = repeat(lambda turns=turns: [draw(inputs) for draw, inputs in turns], seconds)  # type: ignore[misc]
                answer = asdict(took) | {"images": took.steps * sum(batches), "peak_bytes": _peak_bytes()}
            case order:
                raise ValueError(f"no such order: {order}")
        answers.write(json.dumps(answer) + "\n")


def quickest(forms: dict[str, Draw], inputs: Inputs) -> str:
    """The form that takes the least CPU for these inputs; each has drawn them at least once."""
    least_s = dict.fromkeys(forms, float("inf"))
    for draw in forms.values():
        draw(inputs)
    for name, draw in [*forms.items()] * (WARM_TURNS if len(forms) > 1 else 0):
        took = repeat(lambda draw=draw: draw(inputs), WARM_S)  # type: ignore[misc]
        least_s[name] = min(least_s[name], took.cpu_s / took.steps)
    return min(least_s, key=lambda name: least_s[name])


def _peak_bytes() -> int:
    """Of what the program took itself; ru_maxrss begins with what the process that started it had."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
