"""Graphs run by onnxruntime on the CPU, as many rows at a time as there is memory for.

    graph -> session() -> Session, which knows its rows -> run() -> outputs by name

What a row needs is measured: one row is run, and the process has grown by that much, as onnxruntime keeps what it has used.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from export.memory import free_bytes, resident_bytes

Arrays = dict[str, npt.NDArray[Any]]

MOST_ROWS = 1024
PART_OF_FREE = 0.1
"""Of the memory that is free, what the rows of a run may need; onnxruntime takes up to twice as much, in powers of two."""

_TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8}


class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
    """A graph on the CPU; rows: how many are run at a time."""

    rows = MOST_ROWS


def session(graph: onnx.ModelProto, *, is_optimised: bool = True) -> Session:
    """`graph` on the CPU; without its optimisations onnxruntime runs the nodes as they stand."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong comes as an exception too
    if not is_optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Its fallback would print what is wrong, and try the same again.
    made = Session(graph.SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    made.rows = _affordable_rows(made)
    return made


def run(graph: onnxruntime.InferenceSession, inputs: Arrays) -> Arrays:
    """Outputs by name."""
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
