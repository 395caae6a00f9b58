"""One graph of one version on one device, ready to run at its sizes.

    ONNX -> load() -> AnySize:  rows -> session.run -> outputs
                      Padded:   rows -> bound inputs of the next size -> the size's session -> bound outputs -> rows

Knows onnxruntime and the shapes that a manifest tells, not what the rows mean or whose they are.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnxruntime
from onnxruntime import InferenceSession, OrtValue

from figment.v1.manifest_pb2 import Manifest
from server.arrays import Arrays
from server.errors import BundleRefused
from server.models.layout import OUTPUTS, Field, fields
from server.runtime.devices import CPU, CUDA

VERSION: str = onnxruntime.__version__


@dataclass(frozen=True)
class Device:
    """Where sessions run, and how.

    name              "cpu" or "cuda:<number>"
    threads_per_run   CPU threads of one run
    sizes             numbers of rows that are run, ascending; () runs any number, which on CUDA would be planned anew
    cuda_graphs       on CUDA, whether the kernels of a run are launched as one graph, which one thread has to do
    """

    name: str
    threads_per_run: int = 1
    sizes: tuple[int, ...] = ()
    cuda_graphs: bool = False

    @property
    def provider(self) -> str:
        """The execution provider of onnxruntime."""
        return CPU if self.name == "cpu" else CUDA


class Sessions(Protocol):
    """One graph that can be run; on a CPU from several threads at a time."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the graph's inputs."""

    def run(self, pieces: Sequence[Arrays]) -> tuple[Arrays, int]:
        """Run the rows of all pieces, in order. Returns outputs with as many rows, and the rows of padding.

        Arrays that the graph does not take, such as labels of a model whose encoder needs none, are left alone.
        """


def load(role: str, content: bytes, manifest: Manifest, device: Device) -> Sessions:
    """Load an ONNX graph: on CUDA in one session for each size, because cuDNN plans anew whenever the shape changes.

    Raises: BundleRefused, if onnxruntime cannot run the graph on the device, or it does not give what its role must.
    """
    sizes = device.sizes or (0,)
    try:
        if device.provider == CUDA:
            sessions = {size: _session(content, device) for size in sizes}
        else:
            sessions = dict.fromkeys(sizes, _session(content, device))
    except Exception as error:  # onnxruntime's own exceptions share no base class
        raise BundleRefused(f"{role}: onnxruntime cannot load the graph: {str(error)[:300]}") from None
    session = sessions[sizes[0]]
    if session.get_providers()[0] != device.provider:
        raise BundleRefused(f"{role}: onnxruntime fell back to {session.get_providers()[0]}")
    inputs, outputs = _names(session.get_inputs()), _names(session.get_outputs())
    if set(outputs) != set(OUTPUTS[role]):
        raise BundleRefused(f"{role}: gives {', '.join(outputs)}, must give {', '.join(OUTPUTS[role])}")
    if not device.sizes:
        return _AnySize(session, inputs, outputs)

    def bind(size: int) -> _Bound:
        return _Bound(
            sessions[size], fields(manifest, inputs, size)[0], fields(manifest, outputs, size)[0], device.name
        )

    return _Padded(inputs, device.sizes, bind, ThreadPoolExecutor(1) if device.cuda_graphs else None)


class _AnySize:
    """A session that runs as many rows as there are. On a CPU that is 1 to 15% quicker than bound memory."""

    def __init__(self, session: InferenceSession, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        self.inputs = inputs
        self._outputs = outputs
        self._session = session

    def run(self, pieces: Sequence[Arrays]) -> tuple[Arrays, int]:
        """As `Sessions.run`."""
        is_one = len(pieces) == 1
        inputs = {n: pieces[0][n] if is_one else np.concatenate([p[n] for p in pieces]) for n in self.inputs}
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True)), 0


class _Padded:
    """A graph that is run at some sizes only, in bound memory. Runs at the same time have memory of their own.

    sizes    ascending
    bind     makes bound memory of a size
    thread   what runs everything, if one thread must: with CUDA graphs, onnxruntime knows a captured graph by its thread
    """

    def __init__(
        self, inputs: tuple[str, ...], sizes: tuple[int, ...], bind: "Callable[[int], _Bound]", thread: Executor | None
    ) -> None:
        self.inputs = inputs
        self._sizes = sizes
        self._bind = bind
        self._thread = thread
        self._unused: dict[int, list[_Bound]] = {size: [] for size in sizes}

    def run(self, pieces: Sequence[Arrays]) -> tuple[Arrays, int]:
        """As `Sessions.run`, of at most as many rows as the largest size has."""
        return self._thread.submit(self._run, pieces).result() if self._thread else self._run(pieces)

    def _run(self, pieces: Sequence[Arrays]) -> tuple[Arrays, int]:
        rows = sum(len(piece[self.inputs[0]]) for piece in pieces)
        size = next(size for size in self._sizes if size >= rows)
        try:
            bound = self._unused[size].pop()
        except IndexError:
            bound = self._bind(size)
        try:
            return bound.run(pieces, rows), size - rows
        finally:
            # After an error too: a captured CUDA graph goes on using the memory that it was captured with.
            self._unused[size].append(bound)


class _Bound:
    """Inputs and outputs of one session at one size, in memory of its device that stays where it is."""

    def __init__(self, session: InferenceSession, inputs: list[Field], outputs: list[Field], device: str) -> None:
        self._session = session
        self._is_on_cpu = device == "cpu"
        self._rows = {field.name: np.zeros(field.shape, field.dtype) for field in inputs}
        self._inputs = {field.name: _memory(field, device) for field in inputs}
        self._outputs = {field.name: _memory(field, device) for field in outputs}
        self._binding = session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def run(self, pieces: Sequence[Arrays], rows: int) -> Arrays:
        """Run the `rows` rows of all pieces, and the first one again as padding."""
        for name, array in self._rows.items():
            np.concatenate([piece[name] for piece in pieces], out=array[:rows], casting="no")
            array[rows:] = array[0]
            self._inputs[name].update_inplace(array)
        self._session.run_with_iobinding(self._binding)
        outputs = {name: value.numpy()[:rows] for name, value in self._outputs.items()}
        # Of a GPU's memory these are copies already; on a CPU they are the bound memory, which the next run overwrites.
        return {name: array.copy() for name, array in outputs.items()} if self._is_on_cpu else outputs


def _memory(field: Field, device: str) -> OrtValue:
    kind, _, number = device.partition(":")
    return OrtValue.ortvalue_from_shape_and_type(field.shape, field.dtype, kind, int(number or 0))


def _names(nodes: Sequence[onnxruntime.NodeArg]) -> tuple[str, ...]:
    return tuple(node.name for node in nodes)


def _session(content: bytes, device: Device) -> InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = device.threads_per_run
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised as well
    # Threads that spin between runs take the CPU from the gateway.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if device.provider == CPU:
        return InferenceSession(content, options, providers=[CPU])
    cuda = {
        "device_id": device.name.removeprefix("cuda:"),
        # With EXHAUSTIVE, batch sizes that take turns cost some 25 times as much.
        "cudnn_conv_algo_search": "HEURISTIC",
        # The order that tensor cores want.
        "prefer_nhwc": "1",
        "enable_cuda_graph": "1" if device.cuda_graphs else "0",
    }
    return InferenceSession(content, options, providers=[(CUDA, cuda)])
