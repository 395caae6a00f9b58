"""A generator's graph on a GPU without a server: one setting of onnxruntime, in a process that prints JSON.

    ONNX file, setting -> a session for each batch size -> inputs and outputs bound on the device -> images a second

Run as `python -m benchmarks.gpu_graphs '{"file": ...}'`, because a setting may bring its process down. On the device "cpu"
the settings change nothing.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from server.runtime.devices import CPU, CUDA, devices

IN_TURNS = (16, 64)
CHECKED_IMAGES = 4
WARM_RUNS = 3
"""Before the clock starts; the second run captures a CUDA graph."""

BATCH_AXIS = "N"
"""Its name in the graphs of bundles."""


@dataclass(frozen=True)
class Setting:
    """How onnxruntime's CUDA provider runs a graph.

    cuda_graphs   whether the kernels of a run are captured once and launched as one
    prefer_nhwc   whether convolutions are in the order that tensor cores want
    is_fixed      whether the batch axis is a number in the graph, not open until the first run
    """

    cuda_graphs: bool
    prefer_nhwc: bool
    is_fixed: bool

    @property
    def name(self) -> str:
        """Such as "CUDA graphs, NHWC, open batch axis"."""
        parts = ["CUDA graphs" if self.cuda_graphs else "no CUDA graphs", "NHWC" if self.prefer_nhwc else "NCHW"]
        return ", ".join(parts if self.is_fixed else [*parts, "open batch axis"])


@dataclass
class Rates:
    """What came of it: images/s by batch size, and what batches of IN_TURNS in turns take by what each takes alone."""

    images_per_s: dict[int, float] = field(default_factory=dict)
    in_turns: float | None = None
    in_turns_one_session: float | None = None
    """The same with one session for both; only where that is possible."""
    worst_difference: int | None = None
    """Grey levels between CHECKED_IMAGES images and those of the CPU provider."""


def settings() -> Iterator[Setting]:
    """All that are worth a try: the server's own first."""
    yield Setting(cuda_graphs=False, prefer_nhwc=True, is_fixed=False)
    yield Setting(cuda_graphs=True, prefer_nhwc=True, is_fixed=False)
    for cuda_graphs, prefer_nhwc in product((False, True), (True, False)):
        yield Setting(cuda_graphs, prefer_nhwc, is_fixed=True)


def command(file: Path, device: str, setting: Setting, sizes: Sequence[int], seconds: float) -> list[str]:
    """The process that measures one setting and prints `Rates`."""
    order = {"file": str(file), "device": device, "setting": asdict(setting), "sizes": list(sizes), "seconds": seconds}
    return [sys.executable, "-m", "benchmarks.gpu_graphs", json.dumps(order)]


def rates(answer: str) -> Rates:
    """What the process printed."""
    values = json.loads(answer)
    values["images_per_s"] = {int(size): rate for size, rate in values["images_per_s"].items()}
    return Rates(**values)


def measure(file: Path, device: str, setting: Setting, sizes: Sequence[int], seconds: float) -> Rates:
    """Run each size again and again for `seconds`, then IN_TURNS in turns."""
    found = Rates()
    for size in sizes:
        bound = _Bound(open_session(file, device, setting, size), device, size)
        found.images_per_s[size] = size / _seconds_a_round([bound], seconds)
        if size == sizes[-1]:
            found.worst_difference = _worst_difference(file, bound)
        del bound  # with its session's memory
    pair = [_Bound(open_session(file, device, setting, size), device, size) for size in IN_TURNS]
    alone_s = sum(_seconds_a_round([bound], seconds) for bound in pair)
    found.in_turns = _seconds_a_round(pair, seconds) / alone_s
    if not setting.cuda_graphs and not setting.is_fixed:
        session = open_session(file, device, setting, size=0)
        found.in_turns_one_session = (
            _seconds_a_round([_Bound(session, device, size) for size in IN_TURNS], seconds) / alone_s
        )
    return found


def open_session(file: Path, device: str, setting: Setting, size: int) -> onnxruntime.InferenceSession:
    """A session for batches of `size`. Raises: RuntimeError, if onnxruntime does not do as it is told."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if setting.is_fixed:
        options.add_free_dimension_override_by_name(BATCH_AXIS, size)
    cuda = {
        "device_id": device.partition(":")[2],
        "cudnn_conv_algo_search": "HEURISTIC",
        "prefer_nhwc": str(int(setting.prefer_nhwc)),
        "enable_cuda_graph": str(int(setting.cuda_graphs)),
    }
    providers = [CPU] if device == "cpu" else [(CUDA, cuda)]
    session = onnxruntime.InferenceSession(file, options, providers=providers)
    if device != "cpu" and session.get_providers()[0] != CUDA:
        raise RuntimeError(f"onnxruntime fell back to {session.get_providers()[0]}")
    if setting.is_fixed and session.get_inputs()[0].shape[0] != size:
        raise RuntimeError(f"the batch axis is not {BATCH_AXIS}: {session.get_inputs()[0].shape}")
    return session


def example(session: onnxruntime.InferenceSession, size: int) -> dict[str, npt.NDArray[Any]]:
    """Inputs of a generator by name: noise, and the first label where there are labels."""
    draw = np.random.default_rng(0)
    inputs: dict[str, npt.NDArray[Any]] = {}
    for node in session.get_inputs():
        shape = (size, *node.shape[1:])
        inputs[node.name] = (
            np.zeros(shape, np.int64) if node.name == "label" else draw.standard_normal(shape, np.float32)
        )
    return inputs


class _Bound:
    """A session with inputs and outputs of one batch size, which stay on the device."""

    def __init__(self, session: onnxruntime.InferenceSession, device: str, size: int) -> None:
        kind, _, number = device.partition(":")
        place = (kind, int(number or 0))
        (output,) = session.get_outputs()
        self.inputs = example(session, size)
        self._session = session
        self._binding = session.io_binding()
        # Held here: the binding and a captured graph know the addresses only.
        self._values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(a, *place) for name, a in self.inputs.items()}
        shape = [size, *output.shape[1:]]
        self._images = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, *place)
        for name, value in self._values.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_ortvalue_output(output.name, self._images)

    def run(self) -> None:
        """Draw one batch; the images are there when this returns."""
        self._session.run_with_iobinding(self._binding)

    def images(self) -> npt.NDArray[np.uint8]:
        """What the last run drew."""
        images: npt.NDArray[np.uint8] = self._images.numpy()
        return images


def _seconds_a_round(batches: Sequence[_Bound], seconds: float) -> float:
    """Run the batches in turns for a while, WARM_RUNS times each before."""
    for bound in [*batches] * WARM_RUNS:
        bound.run()
    rounds, started_s = 0, time.perf_counter()
    while (passed_s := time.perf_counter() - started_s) < seconds or not rounds:
        for bound in batches:
            bound.run()
        rounds += 1
    return passed_s / rounds


def _worst_difference(file: Path, bound: _Bound) -> int:
    """Grey levels between the images of the first rows and those of the CPU provider."""
    session = onnxruntime.InferenceSession(file, providers=[CPU])
    inputs = {name: array[:CHECKED_IMAGES] for name, array in bound.inputs.items()}
    expected = session.run(None, inputs)[0].astype(np.int16)
    return int(np.abs(bound.images()[:CHECKED_IMAGES] - expected).max())


def main() -> None:
    """Measure one setting, print it."""
    order = json.loads(sys.argv[1])
    (device,) = devices(order["device"])  # loads CUDA's libraries
    setting = Setting(**order["setting"])
    found = measure(Path(order["file"]), device, setting, order["sizes"], order["seconds"])
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
