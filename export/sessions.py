"""Graphs run by onnxruntime on the CPU, as many rows at a time as there is memory for.

    graph -> session() -> Session, which knows its rows -> run() -> outputs by name

All sessions of the export are made here, those on other devices too. What a row needs is measured: one row is run, and the
process has grown by that much, as onnxruntime keeps what it has used.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from export.errors import MeasurementError
from export.memory import free_bytes, resident_bytes

if TYPE_CHECKING:
    import onnx  # not at run time: the memory of a process that measures is the graph's

Arrays = dict[str, npt.NDArray[Any]]

MOST_ROWS = 1024
PART_OF_FREE = 0.1
"""Of the memory that is free, what the rows of a run may need; onnxruntime takes up to twice as much, in powers of two."""

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

_TYPES = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(int32)": np.int32,
    "tensor(int64)": np.int64, "tensor(uint8)": np.uint8,
}  # fmt: skip


class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
    """A graph on the CPU; rows: how many are run at a time."""

    rows = MOST_ROWS


def session(graph: "onnx.ModelProto", *, is_optimised: bool = True) -> Session:
    """`graph` on the CPU; without its optimisations onnxruntime runs the nodes as they stand."""
    options = _options(4)  # what is wrong comes as an exception too
    if not is_optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Its fallback would print what is wrong, and try the same again.
    result = Session(graph.SerializeToString(), options, providers=[PROVIDERS["cpu"]], enable_fallback=0)
    result.rows = _affordable_rows(result)
    return result


def session_on(provider: str, graph: str, threads: int) -> onnxruntime.InferenceSession:
    """The graph in the file `graph` on an execution provider with so many CPU threads.

    Where a provider is missing or cannot be started, onnxruntime warns at most, and runs the graph by another.

    Raises: MeasurementError, if it would.
    """
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise MeasurementError(f"{provider} was asked for; this onnxruntime has {', '.join(available)}")
    if provider != PROVIDERS["cpu"] and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    options = _options(3)
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    result = onnxruntime.InferenceSession(graph, options, providers=[provider])
    if (ran := result.get_providers()[0]) != provider:
        raise MeasurementError(
            f"{provider} was asked for, but onnxruntime finds no GPU or not the libraries that it needs, and runs {ran}"
        )
    return result


def _options(log_severity: int) -> onnxruntime.SessionOptions:
    """log_severity: from which on onnxruntime prints; 3 errors, 4 what ends the process. Threads sleep where they wait: exports
    have other work beside them, and threads that spin take twice the CPU.
    """
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = log_severity
    return options


def run(graph: onnxruntime.InferenceSession, inputs: Arrays) -> Arrays:
    """Run `graph` on rows of inputs by name, as many at a time as it can take. Returns its outputs by name."""
    names = [output.name for output in graph.get_outputs()]
    options, rows = onnxruntime.RunOptions(), getattr(graph, "rows", MOST_ROWS)
    if rows < MOST_ROWS:  # what several large graphs keep for their next run would add up
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    pieces = [graph.run(names, piece, options) for piece in split(inputs, rows)]
    if len(pieces) == 1:
        return dict(zip(names, pieces[0], strict=True))
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*pieces, strict=True), strict=True)}


def split(inputs: Arrays, size: int) -> Iterator[Arrays]:
    """`inputs` in batches of `size` rows."""
    for start in range(0, len(next(iter(inputs.values()))), size):
        yield {name: array[start : start + size] for name, array in inputs.items()}


def _affordable_rows(graph: onnxruntime.InferenceSession) -> int:
    """By the memory that one row takes; MOST_ROWS where that cannot be measured."""
    before, free = resident_bytes(), free_bytes()
    inputs: Arrays = {}
    for node in graph.get_inputs():
        sizes = [1, *node.shape[1:]]
        if node.type not in _TYPES or not all(isinstance(size, int) for size in sizes):
            return MOST_ROWS
        inputs[node.name] = np.zeros(sizes, _TYPES[node.type])
    try:
        graph.run(None, inputs)
    except Exception:  # whoever runs it in earnest is told
        return MOST_ROWS
    grown = resident_bytes() - before
    return MOST_ROWS if grown <= 0 else int(min(max(PART_OF_FREE * free // grown, 1), MOST_ROWS))
