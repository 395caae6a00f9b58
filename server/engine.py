"""The engine: one device, its onnxruntime sessions, and the one thread that runs them.

    bundle -> load() -> Sessions         pieces of inputs -> run(): join, pad, session -> outputs (N, ...)

Knows numpy and onnxruntime, not gRPC and not whose rows it computes.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from server.batcher import Arrays, Graph, Run
from server.bundle import Bundle
from server.errors import BundleRefused

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"

ROLE_OUTPUTS = {
    "generator": {"images"},
    "prior": {"latent"},
    "decoder": {"images"},
    "encoder": {"mean", "log_variance"},
}


class DeviceMissing(Exception):
    """The device that was asked for cannot be had."""


@dataclass(frozen=True, eq=False)
class Session:
    """One role of one loaded version, ready to run."""

    model: str
    session: onnxruntime.InferenceSession
    outputs: tuple[str, ...]


class Engine:
    """Sessions of one device; `run` may be called from one task at a time."""

    def __init__(self, device: str, threads: int | None = None, sizes: Sequence[int] = (), max_size: int = 64) -> None:
        self.provider = CUDA if _wants_cuda(device) else CPU
        self.device = "cuda:0" if self.provider == CUDA else "cpu"
        self.threads = threads or usable_cpus()
        # Without padding CUDA would plan its convolutions anew for every batch size that it meets.
        powers = [2**power for power in range(max_size.bit_length()) if 2**power < max_size]
        self._sizes = tuple(sizes) or ((*powers, max_size) if self.provider == CUDA else ())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"engine-{self.device}")

    def load(self, bundle: Bundle) -> dict[str, Session]:
        """Sessions for all roles of `bundle`, warmed, after they have given what the golden noise must give.

        Blocks; for any thread but the engine's.

        Raises: BundleRefused, if onnxruntime cannot run a graph or the images are not the golden ones.
        """
        name = bundle.manifest.name
        graphs = {}
        for role, content in bundle.graphs.items():
            try:
                session = onnxruntime.InferenceSession(content, self._options(), providers=self._providers())
            except Exception as error:  # onnxruntime's own exceptions share no base class
                raise BundleRefused(f"{role}: onnxruntime cannot load the graph: {str(error)[:300]}") from None
            if session.get_providers()[0] != self.provider:
                raise BundleRefused(f"{role}: onnxruntime fell back to {session.get_providers()[0]}")
            graphs[role] = Session(name, session, tuple(output.name for output in session.get_outputs()))
        self._check_golden(graphs, bundle)
        return graphs

    def fingerprint(self, bundle: Bundle, variant: str) -> str:
        """Short name of everything that decides an image's bytes besides the request."""
        hashes = sorted(graph.sha256 for graph in bundle.manifest.graphs.values() if graph.variant == variant)
        facts = [*hashes, variant, self.provider, onnxruntime.__version__, str(self._sizes)]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]

    async def run(self, graph: Graph, pieces: Sequence[Arrays]) -> Run:
        """Run a session on the rows of all pieces, in order, on the engine's thread."""
        assert isinstance(graph, Session), "graphs come from this engine's load"
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, graph, pieces)

    def close(self) -> None:
        """Wait for the run in progress and end the thread."""
        self._thread.shutdown()

    def _run(self, graph: Session, pieces: Sequence[Arrays]) -> Run:
        started_s = time.monotonic()
        inputs = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
        rows = len(next(iter(inputs.values())))
        padding = next((size for size in self._sizes if size >= rows), rows) - rows
        if padding:
            inputs = {name: np.concatenate([array, np.repeat(array[:1], padding, 0)]) for name, array in inputs.items()}
        values = graph.session.run(graph.outputs, inputs)
        outputs = {name: value[:rows] for name, value in zip(graph.outputs, values, strict=True)}
        return Run(outputs, padding, started_s, time.monotonic() - started_s)

    def _check_golden(self, graphs: dict[str, Session], bundle: Bundle) -> None:
        """Run every role on the golden noise and what follows from it; the images must be the golden ones."""
        golden, manifest = bundle.golden, bundle.manifest
        count = len(golden.noise)
        expected: dict[str, tuple[tuple[int, ...], npt.DTypeLike]] = {"images": (golden.images.shape, np.uint8)}
        expected |= dict.fromkeys(("latent", "mean", "log_variance"), ((count, manifest.latent_dim), np.float32))
        known: Arrays = {"noise": golden.noise}
        if golden.labels is not None:
            known["label"] = golden.labels
        # In this order each role's inputs are known from those before it.
        for role in ("generator", "prior", "decoder", "encoder"):
            if role not in graphs:
                continue
            try:
                inputs = {node.name: known[node.name] for node in graphs[role].session.get_inputs()}
                for size in self._sizes:
                    self._run(graphs[role], [{n: np.resize(a, (size, *a.shape[1:])) for n, a in inputs.items()}])
                outputs = self._run(graphs[role], [inputs]).outputs
            except Exception as error:  # as above
                raise BundleRefused(f"{role}: onnxruntime cannot run the graph: {str(error)[:300]}") from None
            if set(outputs) != ROLE_OUTPUTS[role]:
                raise BundleRefused(f"{role}: gives {', '.join(outputs)}, must give {', '.join(ROLE_OUTPUTS[role])}")
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

    def _options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that spin between runs take the CPU from the gateway.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options

    def _providers(self) -> list[str | tuple[str, dict[str, str]]]:
        # HEURISTIC: with EXHAUSTIVE, batch sizes that take turns cost some 25 times as much.
        return [(CUDA, {"cudnn_conv_algo_search": "HEURISTIC"})] if self.provider == CUDA else [CPU]


def usable_cpus() -> int:
    """CPUs that this process may use: its affinity, cut by the control group's quota."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))
    except (OSError, ValueError):
        return cpus


def _wants_cuda(device: str) -> bool:
    """Whether to run on CUDA; with "auto" where onnxruntime has it and there is a GPU.

    Raises: DeviceMissing, if "cuda" was asked for and onnxruntime does not have it.
    """
    has_provider = CUDA in onnxruntime.get_available_providers()
    has_gpu = Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
    if device == "cuda" and not (has_provider and has_gpu):
        missing = "this onnxruntime has no CUDA provider" if not has_provider else "there is no NVIDIA GPU"
        raise DeviceMissing(f"device: cuda was asked for, but {missing}; allowed here: auto, cpu")
    wants = device == "cuda" or (device == "auto" and has_provider and has_gpu)
    if wants and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    return wants
