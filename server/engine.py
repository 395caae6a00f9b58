"""The engine: one device and its onnxruntime sessions.

    bundle -> load() -> sessions         pieces of inputs -> run(): join, pad, session -> outputs (N, ...)

On CUDA one worker thread owns the device. On a CPU each worker is one core: a run of a small graph by two threads takes
as long as by one and costs 1.4 times as much, while two runs side by side take no longer than one.
Knows numpy and onnxruntime, not gRPC and not whose rows it computes.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from server.batcher import Run
from server.bundle import Bundle
from server.costs import Costs, measure
from server.errors import BundleRefused, DeviceMissing
from server.layout import OUTPUTS
from server.turns import Arrays, Graph

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"

WARM_UP_S = 0.1
"""Seconds for measuring the batch sizes of one graph, beyond the first run of each."""


class Session(NamedTuple):
    """One graph, ready to run."""

    session: onnxruntime.InferenceSession
    outputs: tuple[str, ...]


class Engine:
    """Sessions of one device; `run` may be called from `workers` threads at a time.

    device            "cpu" or "cuda:<number>"
    threads           CPU threads of all runs together
    threads_per_run   CPU threads of one run
    sizes             batch sizes to pad to; () runs any size on a CPU, and means powers of two on CUDA
    max_size          the largest batch
    """

    def __init__(
        self, device: str, threads: int, threads_per_run: int = 1, sizes: Sequence[int] = (), max_size: int = 64
    ) -> None:
        self.device = device
        self.provider = CPU if device == "cpu" else CUDA
        self.workers = max(1, threads // threads_per_run) if self.provider == CPU else 1
        self._threads_per_run = threads_per_run
        powers = [2**power for power in range(max_size.bit_length()) if 2**power < max_size]
        self._steps = tuple(sizes) or (*powers, max_size)
        # Without padding CUDA would plan its convolutions anew for every batch size that it meets.
        self._sizes = tuple(sizes) or (self._steps if self.provider == CUDA else ())
        self._sessions: dict[Graph, Session] = {}
        self._costs: dict[Graph, Costs] = {}

    def load(self, bundle: Bundle) -> None:
        """Load, check and warm the graphs of `bundle`.

        They have given what the golden noise must give. Blocks; for any thread but the workers.

        Raises: BundleRefused, if onnxruntime cannot run a graph or the images are not the golden ones.
        """
        manifest = bundle.manifest
        sessions = {}
        for role, content in bundle.graphs.items():
            try:
                session = onnxruntime.InferenceSession(content, self._options(), providers=self._providers())
            except Exception as error:  # onnxruntime's own exceptions share no base class
                raise BundleRefused(f"{role}: onnxruntime cannot load the graph: {str(error)[:300]}") from None
            if session.get_providers()[0] != self.provider:
                raise BundleRefused(f"{role}: onnxruntime fell back to {session.get_providers()[0]}")
            sessions[role] = Session(session, tuple(output.name for output in session.get_outputs()))
        costs = self._check_golden(sessions, bundle)
        graphs = {role: Graph(manifest.name, manifest.version, role) for role in sessions}
        self._sessions |= {graphs[role]: session for role, session in sessions.items()}
        self._costs |= {graphs[role]: cost for role, cost in costs.items()}

    def fingerprint(self, bundle: Bundle, variant: str) -> str:
        """Short name of everything that decides an image's bytes besides the request."""
        hashes = sorted(graph.sha256 for graph in bundle.manifest.graphs.values() if graph.variant == variant)
        facts = [*hashes, variant, self.provider, onnxruntime.__version__, str(self._sizes)]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]

    def enough(self, graph: Graph) -> int:
        """Rows that are worth a run even if more are about to come."""
        return self._costs[graph].enough

    def rows(self, graph: Graph, waiting: int, idle: int) -> int:
        """How many of the rows that wait to run now, while `idle` more workers have nothing to do."""
        return self._costs[graph].rows(waiting, idle)

    def run(self, graph: Graph, pieces: Sequence[Arrays]) -> Run:
        """Run `graph` on the rows of all pieces, in order."""
        return self._run(self._sessions[graph], pieces)

    def _run(self, session: Session, pieces: Sequence[Arrays]) -> Run:
        started_s = time.monotonic()
        inputs = pieces[0] if len(pieces) == 1 else {n: np.concatenate([p[n] for p in pieces]) for n in pieces[0]}
        rows = len(next(iter(inputs.values())))
        padding = next((size for size in self._sizes if size >= rows), rows) - rows
        if padding:
            inputs = {name: np.concatenate([array, np.repeat(array[:1], padding, 0)]) for name, array in inputs.items()}
        values = session.session.run(session.outputs, inputs)
        outputs = {name: value[:rows] for name, value in zip(session.outputs, values, strict=True)}
        return Run(outputs, padding, started_s, time.monotonic() - started_s)

    def _check_golden(self, sessions: dict[str, Session], bundle: Bundle) -> dict[str, Costs]:
        """Run every role on the golden noise and what follows from it; the images must be the golden ones.

        Returns what runs cost by role.
        """
        golden, manifest = bundle.golden, bundle.manifest
        count = len(golden.noise)
        expected: dict[str, tuple[tuple[int, ...], npt.DTypeLike]] = {"images": (golden.images.shape, np.uint8)}
        expected |= dict.fromkeys(("latent", "mean", "log_variance"), ((count, manifest.latent_dim), np.float32))
        known: Arrays = {"noise": golden.noise}
        costs: dict[str, Costs] = {}
        if golden.labels is not None:
            known["label"] = golden.labels
        # In this order each role's inputs are known from those before it.
        for role in ("generator", "prior", "decoder", "encoder"):
            if role not in sessions:
                continue
            try:
                inputs = {node.name: known[node.name] for node in sessions[role].session.get_inputs()}
                outputs = self._run(sessions[role], [inputs]).outputs
            except Exception as error:  # as above
                raise BundleRefused(f"{role}: onnxruntime cannot run the graph: {str(error)[:300]}") from None
            if set(outputs) != set(OUTPUTS[role]):
                raise BundleRefused(f"{role}: gives {', '.join(outputs)}, must give {', '.join(OUTPUTS[role])}")
            for name, array in outputs.items():
                shape, dtype = expected[name]
                if array.shape != shape or array.dtype != dtype:
                    wanted = f"{np.dtype(dtype)} {shape}"
                    raise BundleRefused(f"{role}: {name} is {array.dtype} {array.shape}, must be {wanted}")
            if "images" in outputs:
                worst = int(np.abs(outputs["images"].astype(np.int16) - golden.images).max())
                if worst > golden.tolerance:
                    allowed = f"{golden.tolerance:g}"
                    raise BundleRefused(f"{role}: off the golden images by {worst} grey levels, allowed {allowed}")
            known |= outputs
            costs[role] = self._measure(sessions[role], inputs)
        return costs

    def _measure(self, session: Session, inputs: Arrays) -> Costs:
        """Warm a session at every batch size, the largest first where memory is kept, and time it."""

        def run(size: int) -> None:
            self._run(session, [{name: np.resize(array, (size, *array.shape[1:])) for name, array in inputs.items()}])

        if self._sizes:
            for size in reversed(self._sizes):
                run(size)
        return measure(run, self._steps, is_padded=bool(self._sizes), budget_s=WARM_UP_S)

    def _options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads_per_run
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that spin between runs take the CPU from the gateway.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options

    def _providers(self) -> list[str | tuple[str, dict[str, str]]]:
        if self.provider == CPU:
            return [CPU]
        # HEURISTIC: with EXHAUSTIVE, batch sizes that take turns cost some 25 times as much.
        return [(CUDA, {"device_id": self.device.removeprefix("cuda:"), "cudnn_conv_algo_search": "HEURISTIC"})]


def usable_cpus() -> int:
    """CPUs that this process may use: its affinity, cut by the control group's quota."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))
    except (OSError, ValueError):
        return cpus


def devices(setting: str) -> list[str]:
    """The devices that a setting names: "cpu", or "cuda:0" and so on; "auto" is cuda:0 where there is a GPU, else cpu.

    Raises: DeviceMissing, if CUDA was asked for and onnxruntime does not have it.
    """
    has_provider = CUDA in onnxruntime.get_available_providers()
    has_gpu = Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
    if setting == "auto":
        setting = "cuda" if has_provider and has_gpu else "cpu"
    if setting == "cpu":
        return ["cpu"]
    if not (has_provider and has_gpu):
        missing = "this onnxruntime has no CUDA provider" if not has_provider else "there is no NVIDIA GPU"
        raise DeviceMissing(f"device: {setting} was asked for, but {missing}; allowed here: auto, cpu")
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    return [name if ":" in name else f"{name}:0" for name in setting.split(",")]
