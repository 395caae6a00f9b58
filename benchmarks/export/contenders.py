"""Who takes part: PyTorch, a naive export, OpenVINO, and each variant of the bundle's generator, each a process.

    run folder, naive ONNX file, bundle -> [Contender] -> running() -> warm() -> images() -> take turns ... -> ended

All processes stay alive while they take turns; one that waits for an order takes no CPU.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.shared.environments import environment
from benchmarks.shared.processes import Failed, Process, machine_busy_s, spawn
from benchmarks.shared.turns import Sample, Span
from benchmarks.shared.workloads import HOME, LOGS

EAGER, COMPILED, NAIVE = "torch eager", "torch.compile", "naive export"
OPENVINO, OPENVINO_INT8 = "OpenVINO, naive export", "OpenVINO, figment int8"

ANSWER_S = 900.0
"""Seconds that an order may take; torch.compile takes most of them."""

# One process compiles, so that no other lives on beside the measurement.
ENVIRONMENT = {"TORCHINDUCTOR_CACHE_DIR": str(HOME / "inductor"), "TORCHINDUCTOR_COMPILE_THREADS": "1"}


@dataclass(frozen=True)
class Sources:
    """What the contenders draw with: forms of one trained generator.

    run       finished run folder
    naive     ONNX file of the naive export
    variants  ONNX files of the bundle by variant
    inputs    .npz file of noise [, label], as many as the largest batch
    """

    run: Path
    naive: Path
    variants: dict[str, Path]
    inputs: Path
    threads: int


class Contender:
    """One way to draw; is_exact: whether the images must be those of the trained networks, but for rounding."""

    process: Process

    def __init__(self, name: str, command: Sequence[str], *, is_exact: bool) -> None:
        self.name = name
        self.is_exact = is_exact
        self.forms: dict[int, str] = {}
        """What was chosen at each batch size, where there was a choice."""
        self.peak_bytes = 0
        self._command = command

    @contextmanager
    def running(self) -> Iterator[None]:
        """Its process."""
        log = LOGS / f"export-{self.name.replace(', ', '-').replace(' ', '-')}.log"
        with spawn(self._command, log, ENVIRONMENT, takes_orders=True) as self.process:
            yield

    def warm(self, batch: int) -> None:
        """Let it get ready for batches of this size. Raises: Failed."""
        self.forms[batch] = self.process.ask(ANSWER_S, order="warm", batch=batch)["form"]

    def images(self, batch: int, folder: Path) -> npt.NDArray[np.int16]:
        """The images of the first `batch` inputs: (N, H, W, C), by way of a file in `folder`. Raises: Failed."""
        file = folder / "images.npy"
        self.process.ask(ANSWER_S, order="draw", batch=batch, file=str(file))
        return np.asarray(np.load(file), np.int16)

    def run(self, batches: Sequence[int], seconds: float) -> Sample:
        """Let it draw batches of these sizes in turns. Raises: Failed."""
        busy_s = machine_busy_s()
        took = self.process.ask(ANSWER_S, order="run", batches=batches, seconds=seconds)
        self.peak_bytes = took["peak_bytes"]
        others_cpu_s = machine_busy_s() - busy_s - took["cpu_s"]
        return Sample(took["images"], took["seconds"], took["cpu_s"], 0.0, others_cpu_s, took["p50_s"])


@dataclass
class Batches:
    """A contender's turns with batches of certain sizes."""

    name: str
    contender: Contender
    sizes: tuple[int, ...]

    def measure(self, span: Span) -> Sample:
        """Take a turn. Raises: Failed."""
        return self.contender.run(self.sizes, span.window_s)


def figment(variant: str) -> str:
    """Name of the contender that is a variant of the bundle's generator."""
    return f"figment {variant}"


def contenders(sources: Sources, missing: dict[str, str]) -> Iterator[Contender]:
    """All that can be set up; the reasons of the others go to `missing`."""

    def contender(name: str, python: str, module: str, is_exact: bool = True, **settings: Any) -> Contender:
        order = {"inputs": str(sources.inputs), "threads": sources.threads, **settings}
        return Contender(name, [python, "-m", f"benchmarks.{module}", json.dumps(order)], is_exact=is_exact)

    here, run, onnx = sys.executable, str(sources.run), "export.onnx_drawer"
    yield contender(EAGER, here, "export.torch_drawer", run=run, is_compiled=False)
    yield contender(COMPILED, here, "export.torch_drawer", run=run, is_compiled=True)
    yield contender(NAIVE, here, onnx, graph=str(sources.naive))
    files = {OPENVINO: sources.naive}
    if "int8" in sources.variants:
        files[OPENVINO_INT8] = sources.variants["int8"]
    try:
        python = environment("openvino")
    except Failed as failure:
        missing |= dict.fromkeys(files, str(failure))
    else:
        for name, file in files.items():
            yield contender(name, python, "peers.openvino.draw", name == OPENVINO, graph=str(file))
    for variant, file in sources.variants.items():
        yield contender(figment(variant), here, onnx, variant == "fp32", graph=str(file))
