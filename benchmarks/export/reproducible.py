"""Whether what is computed depends on the process that computes it: unrounded images of torch and of onnxruntime, by bits.

    run folder -> graphs -> [fresh process: torch's networks, onnxruntime at sizes, alignments and threads] ... -> who moved

Several processes at a time, so that they disturb each other; each is compared with the first. One process that repeats its
work shows less: kernels are chosen, and memory is laid out, at its first calls. Ends with status 1 if a side moved.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch

from benchmarks.shared.processes import in_subprocess
from benchmarks.shared.session import open_session
from export.golden import golden_inputs
from export.graphs import roles
from export.pixels import unrounded
from export.sessions import Arrays, split
from export.sessions import run as run_graph
from export.source import from_run
from training.model import Model
from training.settings import TrainSettings
from training.trainer import train

ROWS = 64
SIZES = (1, 2, 3, 7, 16, 64)
OFFSETS_BYTES = (0, 4, 16, 32)
"""Of an input from a multiple of 64 bytes, where NumPy's own arrays may begin at any multiple of 16."""

THREADS = (1, 4)
"""Of onnxruntime: what a server takes for a run, and more than this machine may have."""

FAMILIES = ("gan", "hybrid", "vae")


def starters(folder: Path) -> list[Path]:
    """A small run of each family on the digits, trained for seconds."""
    runs = []
    for family in FAMILIES:
        settings = {"data": "digits", "family": family, "images": 1_600, "batch": 32, "device": "cpu"}
        train(TrainSettings.model_validate(settings | {"out": folder / family}))
        runs.append(folder / family)
    return runs


def write_graphs(run: Path, folder: Path) -> None:
    """The graphs of a run without their rounding, and the inputs of each."""
    source = from_run(run)
    arrays: Arrays = golden_inputs(ROWS, source.facts.noise_dim, len(source.facts.labels))
    for role, graph in source.graphs.items():
        inputs = {node.name: arrays[node.name] for node in graph.graph.input}
        np.savez(folder / f"{role}.inputs.npz", **inputs)  # type: ignore[arg-type]
        onnx.save(unrounded(graph) or graph, folder / f"{role}.onnx")
        arrays |= run_graph(open_session(graph.SerializeToString(), 1), inputs)


def computed(run: Path, graphs: Path) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """What this process computes, by side, role and circumstance; torch first, as an export does."""
    networks = {role.name: role for role in roles(Model.load(run))}
    for file in sorted(graphs.glob("*.inputs.npz")):
        inputs, role = dict(np.load(file)), file.name.partition(".")[0]
        for name, array in networks[role](inputs).items() if role in networks else ():
            yield f"torch {role} {name}", array
        graph = onnx.load(graphs / f"{role}.onnx")
        names = [node.name for node in graph.graph.output]
        for threads in THREADS:
            session = open_session(graph.SerializeToString(), threads)
            for size, offset in [(size, 0) for size in SIZES] + [(ROWS, offset) for offset in OFFSETS_BYTES]:
                pieces = [session.run(names, _moved(piece, offset)) for piece in split(inputs, size)]
                for name, arrays in zip(names, zip(*pieces, strict=True), strict=True):
                    yield f"onnxruntime {role} {name}, {threads} threads", np.concatenate(arrays)


def _moved(inputs: Arrays, offset: int) -> Arrays:
    """Copies of `inputs` that begin `offset` bytes after a multiple of 64, as far as their items allow."""
    placed = {}
    for name, array in inputs.items():
        memory = np.empty(array.nbytes + 128, np.uint8)
        start = -memory.ctypes.data % 64 + max(offset, array.itemsize if offset else 0)
        placed[name] = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        placed[name][...] = array
    return placed


def compare(run: Path, graphs: Path) -> list[str]:
    """Compute, and say what differs from what the first process found and left in `graphs`."""
    found = dict[str, npt.NDArray[np.float32]]()
    differences, first = [], graphs / "first.npz"
    for what, array in computed(run, graphs):
        same = found.setdefault(what, array)
        if not np.array_equal(array, same):
            differences.append(f"{what}: within a process, by {np.abs(array - same).max():.3g}")
    if not first.exists():
        np.savez(first, **found)  # type: ignore[arg-type]
        return differences
    with np.load(first) as reference:
        for what, array in found.items():
            if not np.array_equal(array, reference[what]):
                differences.append(f"{what}: by {np.abs(array - reference[what]).max():.3g}")
    return differences


def stress(runs: list[Path], seconds: float, together: int) -> tuple[int, Counter[str]]:
    """Processes that were run, and how often each thing moved. Raises: Failed, if one ended early."""
    moved: Counter[str] = Counter()
    processes, until_s = 0, time.monotonic() + seconds
    with (
        tempfile.TemporaryDirectory(prefix="figment-wobble-") as name,
        ThreadPoolExecutor(len(runs) * together) as pool,
    ):

        def fresh(run: Path) -> list[str]:
            return in_subprocess(compare, None, run, Path(name) / run.name)

        for run in runs:
            (Path(name) / run.name).mkdir()
            write_graphs(run, Path(name) / run.name)
        waiting = runs  # the first of each run, with which the others are compared
        while True:
            for differences in pool.map(fresh, waiting):
                moved.update(differences)
                processes += 1
            if waiting is not runs and time.monotonic() >= until_s:
                return processes, moved
            waiting = runs * together


def main() -> None:
    """Stress, and tell who moved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, action="append", default=[], help="run folder; by default three small ones")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--together", type=int, default=os.cpu_count() or 1, help="processes of each run at a time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="figment-wobble-runs-") as folder:
        processes, moved = stress(options.run or starters(Path(folder)), options.seconds, options.together)
    print(f"{processes} processes, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}", end=", ")
    print(f"onnxruntime {onnxruntime.__version__}: {sum(moved.values())} differences")
    for what, count in sorted(moved.items()):
        print(f"{count} times {what}")
    sys.exit(bool(moved))


if __name__ == "__main__":
    main()
