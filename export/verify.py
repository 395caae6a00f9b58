"""The check of a graph: onnxruntime against the trained networks, over several batch sizes.

    role, ONNX file, inputs -> torch once, onnxruntime at each batch size -> Parity, outputs

A graph passes if no value is further off than the tolerance and if each row's bytes are the same at every batch size:
the server puts rows of several requests into one batch, and nobody may see that.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from export.errors import ParityError
from export.graphs import Role
from figment.v1.manifest_pb2 import Parity

BATCH_SIZES = (1, 2, 3, 7, 16, 64)

GREY_LEVELS = 1.0
"""Tolerance of images: a value on the edge between two grey levels may round either way."""

RELATIVE = 1e-4
"""Tolerance of latents: of the largest value, for sums of some thousand float32 products in another order."""

DIFFERING = 0.001
"""Largest share of an image's values that may differ at all."""

Arrays = dict[str, npt.NDArray[np.generic]]


def verify(role: Role, path: Path, inputs: Arrays) -> tuple[Parity, Arrays]:
    """Run `role` and the graph at `path` on the same inputs of max(BATCH_SIZES) rows.

    Returns what was seen, for the manifest, and the graph's outputs by name.

    Raises: ParityError, naming the graph, the batch size and the figure.
    """
    rows = max(BATCH_SIZES)
    wanted = {name: value.numpy() for name, value in role({n: torch.from_numpy(a) for n, a in inputs.items()}).items()}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    whole = _run(session, inputs)
    for size in BATCH_SIZES:
        pieces = [_run(session, {n: a[i : i + size] for n, a in inputs.items()}) for i in range(0, rows, size)]
        for name, expected in whole.items():
            got = np.concatenate([piece[name] for piece in pieces])
            if not np.array_equal(got, expected):
                row = int(np.flatnonzero((got != expected).reshape(rows, -1).any(1))[0])
                raise ParityError(
                    f"{path.name}: {name} row {row} at batch size {size} is not that of batch size {rows}"
                )
    parity = Parity(unit="grey_levels" if "images" in wanted else "relative", batch_sizes=BATCH_SIZES)
    parity.tolerance = GREY_LEVELS if "images" in wanted else RELATIVE
    for name, reference in wanted.items():
        error = np.abs(whole[name].astype(np.float64) - reference.astype(np.float64))
        worst = float(error.max()) if name == "images" else float(error.max() / np.abs(reference).max())
        parity.worst_error = max(parity.worst_error, worst)
        parity.differing = max(parity.differing, float((error > 0).mean()))
        # Written so that NaN, which compares false with everything, fails.
        if not worst <= parity.tolerance:
            raise ParityError(
                f"{path.name}: {name} is off by {worst:.3g} {parity.unit} at batch size {rows}, "
                f"allowed are {parity.tolerance:.3g}"
            )
        if name == "images" and parity.differing > DIFFERING:
            raise ParityError(
                f"{path.name}: {parity.differing:.2%} of the values differ at batch size {rows}, "
                f"allowed are {DIFFERING:.2%}"
            )
    return parity, whole


def _run(session: onnxruntime.InferenceSession, inputs: Arrays) -> Arrays:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))
