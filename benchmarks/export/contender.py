"""A contender seen from outside: its process, the orders it is given, its images, its turns.

    Contender(command) -> start() -> warm() -> images() -> take turns ... -> stop()

All processes stay alive while they take turns; one that waits for an order takes no CPU.
"""

import json
import os
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from benchmarks.contenders import Sample, Span
from benchmarks.export.orders import Took
from benchmarks.plan import HOME
from benchmarks.processes import StartFailed, machine_busy_s

ROOT = Path(__file__).parents[2]
"""Where the processes start, so that they find this package."""

ANSWER_S = 900.0
"""Seconds that an order may take; torch.compile takes most of them."""

STOP_S = 10.0

# One process compiles, so that no other lives on beside the measurement.
ENVIRONMENT = {"TORCHINDUCTOR_CACHE_DIR": str(HOME / "inductor"), "TORCHINDUCTOR_COMPILE_THREADS": "1"}


class Contender:
    """One way to draw, in a process of its own; ends with the `with` block.

    is_exact   whether the images must be those of the trained networks, but for rounding
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, *, is_exact: bool = True) -> None:
        self.name = name
        self.is_exact = is_exact
        self.forms: dict[int, str] = {}
        """What was chosen at each batch size, where there was a choice."""
        self.peak_bytes = 0
        self._command = list(command)
        self._log = log
        self._popen: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(  # noqa: S603 - the commands are this package's own
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, **ENVIRONMENT},
                text=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def warm(self, batch: int) -> None:
        """Let it get ready for batches of this size. Raises: StartFailed."""
        self.forms[batch] = self._ask({"order": "warm", "batch": batch})["form"]

    def images(self, batch: int, folder: Path) -> npt.NDArray[np.uint8]:
        """The images of the first `batch` inputs: (N, H, W, C), by way of a file in `folder`. Raises: StartFailed."""
        file = folder / "images.npy"
        self._ask({"order": "draw", "batch": batch, "file": str(file)})
        images: npt.NDArray[np.uint8] = np.load(file)
        return images

    def run(self, batches: Sequence[int], seconds: float) -> Sample:
        """Let it draw batches of these sizes in turns. Raises: StartFailed."""
        busy_s = machine_busy_s()
        took = Took(**self._ask({"order": "run", "batches": list(batches), "seconds": seconds}))
        self.peak_bytes = took.peak_bytes
        others_cpu_s = machine_busy_s() - busy_s - took.cpu_s
        return Sample(took.images, took.seconds, took.cpu_s, others_cpu_s=others_cpu_s, p50_s=took.run_p50_s)

    def stop(self) -> None:
        """End it. Does nothing the second time."""
        if self._popen is None:
            return
        assert self._popen.stdin
        with suppress(BrokenPipeError):
            self._popen.stdin.close()
        try:
            self._popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._popen = None

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._popen
        assert self._popen.stdin
        assert self._popen.stdout
        alarm = threading.Timer(ANSWER_S, self._popen.kill)
        alarm.start()
        try:
            self._popen.stdin.write(json.dumps(order) + "\n")
            self._popen.stdin.flush()
            line = self._popen.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            alarm.cancel()
        if not line:
            raise StartFailed(f"ended with status {self._popen.wait()}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return " / ".join(lines[-3:])[-400:] or "it wrote nothing"


class Batches:
    """A contender's turns with batches of certain sizes."""

    def __init__(self, name: str, contender: Contender, sizes: Sequence[int]) -> None:
        self.name = name
        self._sizes = tuple(sizes)
        self._contender = contender

    def measure(self, span: Span) -> Sample:
        """Take a turn. Raises: StartFailed."""
        return self._contender.run(self._sizes, span.window_s)
