"""A generator's graph on a GPU without a server, by one of onnxruntime's forms.

    ONNX file, form -> a session for each batch size -> inputs and outputs bound on the device -> images a second

Measured in a process of its own, because a form may bring it down. On the device "cpu" the forms change nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from benchmarks.shared.timing import repeat
from server.runtime.devices import CPU, CUDA, devices

IN_TURNS = (16, 64)
CHECKED_IMAGES = 4
WARM_RUNS = 3
"""Before the clock starts; the second run captures a CUDA graph."""

BATCH_AXIS = "N"
"""Its name in the graphs of bundles."""


@dataclass(frozen=True)
class Form:
    """How onnxruntime's CUDA provider runs a graph.

    cuda_graphs   whether the kernels of a run are captured once and launched as one
    prefer_nhwc   whether convolutions are in the order that tensor cores want
    is_fixed      whether the batch axis is a number in the graph, not open until the first run
    """

    cuda_graphs: bool = False
    prefer_nhwc: bool = True
    is_fixed: bool = False

    @property
    def name(self) -> str:
        """Such as "CUDA graphs, NHWC, open batch axis"."""
        parts = ["CUDA graphs" if self.cuda_graphs else "no CUDA graphs", "NHWC" if self.prefer_nhwc else "NCHW"]
        return ", ".join(parts if self.is_fixed else [*parts, "open batch axis"])


FORMS = (
    Form(),  # the server's own
    Form(cuda_graphs=True),
    *(
        Form(cuda_graphs, prefer_nhwc, is_fixed=True)
        for cuda_graphs, prefer_nhwc in product((False, True), (True, False))
    ),
)
"""All that are worth a try."""


@dataclass
class Rates:
    """What came of it: images/s by batch size, and what batches of IN_TURNS in turns take by what each takes alone."""

    images_per_s: dict[int, float] = field(default_factory=dict)
    in_turns: float | None = None
    in_turns_one_session: float | None = None
    """The same with one session for both; only where that is possible."""
    worst_difference: int | None = None
    """Grey levels between CHECKED_IMAGES images and those of the CPU provider."""


def measure(file: Path, device: str, form: Form, sizes: Sequence[int], seconds: float) -> Rates:
    """Run each size again and again for `seconds`, then IN_TURNS in turns."""
    devices(device)  # loads CUDA's libraries
    found = Rates()
    for size in sizes:
        bound = _Bound(open_session(file, device, form, size), device, size)
        found.images_per_s[size] = size / _seconds_a_round([bound], seconds)
        if size == sizes[-1]:
            found.worst_difference = _worst_difference(file, bound)
        del bound  # with its session's memory
    pair = [_Bound(open_session(file, device, form, size), device, size) for size in IN_TURNS]
    alone_s = sum(_seconds_a_round([bound], seconds) for bound in pair)
    found.in_turns = _seconds_a_round(pair, seconds) / alone_s
    if not form.cuda_graphs and not form.is_fixed:
        session = open_session(file, device, form, size=0)
        both = [_Bound(session, device, size) for size in IN_TURNS]
        found.in_turns_one_session = _seconds_a_round(both, seconds) / alone_s
    return found


def alone(file: Path, device: str, sizes: Sequence[int], seconds: float) -> Iterator[tuple[int, float]]:
    """Images/s by batch size in the server's form, noise and images in the host's memory, in this process."""
    for size in sizes:
        session = open_session(file, device, Form(), size)
        inputs = _example(session, size)
        took = repeat(lambda: session.run(None, inputs), seconds, warm=1)  # noqa: B023 - it is called here only
        yield size, size / took.seconds_a_step


def open_session(file: Path, device: str, form: Form, size: int) -> onnxruntime.InferenceSession:
    """A session for batches of `size`. Raises: RuntimeError, if onnxruntime does not do as it is told."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if form.is_fixed:
        options.add_free_dimension_override_by_name(BATCH_AXIS, size)
    cuda = {
        "device_id": device.partition(":")[2],
        "cudnn_conv_algo_search": "HEURISTIC",
        "prefer_nhwc": str(int(form.prefer_nhwc)),
        "enable_cuda_graph": str(int(form.cuda_graphs)),
    }
    providers = [CPU] if device == "cpu" else [(CUDA, cuda)]
    session = onnxruntime.InferenceSession(file, options, providers=providers)
    if device != "cpu" and session.get_providers()[0] != CUDA:
        raise RuntimeError(f"onnxruntime fell back to {session.get_providers()[0]}")
    if form.is_fixed and session.get_inputs()[0].shape[0] != size:
        raise RuntimeError(f"the batch axis is not {BATCH_AXIS}: {session.get_inputs()[0].shape}")
    return session


def _example(session: onnxruntime.InferenceSession, size: int) -> dict[str, npt.NDArray[Any]]:
    """Inputs of a generator by name: noise, and the first label where there are labels."""
    draw = np.random.default_rng(0)
    return {
        node.name: np.zeros(size, np.int64)
        if node.name == "label"
        else draw.standard_normal((size, node.shape[1]), "f")
        for node in session.get_inputs()
    }


class _Bound:
    """A session with inputs and outputs of one batch size, which stay on the device."""

    def __init__(self, session: onnxruntime.InferenceSession, device: str, size: int) -> None:
        kind, _, number = device.partition(":")
        place = (kind, int(number or 0))
        (output,) = session.get_outputs()
        self.inputs = _example(session, size)
        self._session = session
        self._binding = session.io_binding()
        # Held here: the binding and a captured graph know the addresses only.
        self._values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(a, *place) for name, a in self.inputs.items()}
        shape = [size, *output.shape[1:]]
        self.images = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, *place)
        for name, value in self._values.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_ortvalue_output(output.name, self.images)

    def run(self) -> None:
        """Draw one batch; the images are there when this returns."""
        self._session.run_with_iobinding(self._binding)


def _seconds_a_round(batches: Sequence[_Bound], seconds: float) -> float:
    """Run the batches in turns for a while."""

    def run() -> None:
        for bound in batches:
            bound.run()

    return repeat(run, seconds, WARM_RUNS).seconds_a_step


def _worst_difference(file: Path, bound: _Bound) -> int:
    """Grey levels between the images of the first rows and those of the CPU provider."""
    session = onnxruntime.InferenceSession(file, providers=[CPU])
    inputs = {name: array[:CHECKED_IMAGES] for name, array in bound.inputs.items()}
    expected = session.run(None, inputs)[0].astype(np.int16)
    return int(np.abs(bound.images.numpy()[:CHECKED_IMAGES] - expected).max())
