"""The engine: one device and the graphs that it can run.

    bundle -> load() -> graphs, checked and warm         pieces of inputs -> graphs[name].run() -> outputs (N, ...)

On CUDA one worker thread owns the device. On a CPU each worker is one core: a run of a small graph by two threads takes
as long as by one and costs 1.4 times as much, while two runs side by side take no longer than one.
Knows numpy, not gRPC and not whose rows it computes.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from server.arrays import Arrays
from server.errors import BundleRefused
from server.models.bundle import Bundle, truncated_dim
from server.models.graph import Graph
from server.models.variants import files_of
from server.runtime.self_test import self_test
from server.runtime.sessions import VERSION, Device, Sessions, load
from server.scheduling.batch_cost import BatchCost, measure
from server.scheduling.engine import LoadedGraph

WARM_UP_S = 0.1
"""Seconds for measuring the batch sizes of one graph, beyond the first run of each."""


class Engine:
    """The graphs of one device, which may be run from `workers` threads at a time.

    device            "cpu" or "cuda:<number>"
    threads           CPU threads of all runs together
    threads_per_run   CPU threads of one run
    sizes             batch sizes to pad to; () runs any size on a CPU, and means powers of two on CUDA
    max_size          the largest batch
    cuda_graphs       whether runs on CUDA are captured once and then launched as a whole
    """

    def __init__(
        self,
        device: str,
        threads: int,
        threads_per_run: int = 1,
        sizes: Sequence[int] = (),
        max_size: int = 64,
        *,
        cuda_graphs: bool = False,
    ) -> None:
        self.device = device
        powers = [2**power for power in range(max_size.bit_length()) if 2**power < max_size]
        self._steps = tuple(sizes) or (*powers, max_size)
        # Without padding CUDA would plan its convolutions anew for every batch size that it meets.
        padded = () if device == "cpu" and not sizes else self._steps
        self._place = Device(device, threads_per_run, padded, cuda_graphs)
        self.provider = self._place.provider
        self.workers = max(1, threads // threads_per_run) if device == "cpu" else 1
        self.graphs: dict[Graph, LoadedGraph] = {}

    def load(self, bundle: Bundle) -> None:
        """Load, check and warm the graphs of `bundle`.

        They have given what the golden noise must give. Blocks; for any thread but the workers.

        Raises: BundleRefused, if onnxruntime cannot run a graph or the images are not the golden ones.
        """
        manifest = bundle.manifest
        sessions = {role: load(role, content, manifest, self._place) for role, content in bundle.graphs.items()}
        inputs = self_test(sessions, bundle, self._steps[-1])
        try:
            costs = {role: self._measure(sessions[role], inputs[role]) for role in sessions}
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise BundleRefused(f"onnxruntime cannot run batches of all sizes: {str(error)[:300]}") from None
        engine = self.fingerprint(bundle)
        for role in sessions:
            graph = Graph(manifest.name, manifest.version, role, engine)
            self.graphs[graph] = LoadedGraph(sessions[role].run, costs[role])

    def fingerprint(self, bundle: Bundle) -> str:
        """Short name of everything that decides an image's bytes besides the request."""
        files = files_of(bundle.manifest, bundle.variant).values()
        manifest = bundle.manifest
        hashes = sorted(manifest.graphs[file].sha256 for file in files)
        # Truncation and drawn labels depend on these, and no graph holds them.
        drawn = f"{manifest.noise_dim} {truncated_dim(manifest)} {len(manifest.labels)}"
        facts = [*hashes, drawn, bundle.variant, self.provider, VERSION, str(self._place.sizes)]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]

    def _measure(self, sessions: Sessions, inputs: Arrays) -> BatchCost:
        """Warm a graph at every batch size, the largest first where memory is kept, and time it."""

        def run(size: int) -> None:
            sessions.run([{name: np.resize(array, (size, *array.shape[1:])) for name, array in inputs.items()}])

        for size in reversed(self._place.sizes):
            run(size)
        return measure(run, self._steps, is_padded=bool(self._place.sizes), budget_s=WARM_UP_S)
