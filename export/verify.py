"""The check of a graph: onnxruntime against the trained networks, over several batch sizes.

    graph, inputs, what the networks give -> onnxruntime at each batch size -> Parity, outputs

Each row's bytes must be the same at every batch size: the server puts rows of several requests into one batch, and nobody
may see that. An exact graph must also give what the networks give, to rounding; what a lossy one may lose is for `drift`
to say. Images are compared as grey levels. What the networks are, only its callers know.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx

from export.errors import ParityError
from export.pixels import IMAGES, to_bytes, unrounded
from export.sessions import Arrays, Session, run, session, split
from figment.v1.manifest_pb2 import Parity

BATCH_SIZES = (1, 2, 3, 7, 16, 64)

UNROUNDED = 1e-5
"""Tolerance of images before they are rounded, of the 255 grey levels: sums of some thousand float32 products."""

LOSSES = 2.0
"""What is allowed where sums in float32 lose more than that: as many times what the more exact side, of the networks and the
graph, is off from float64. Each may lose another part; one that computes less exactly than the other is found all the same."""

GREY_LEVELS = 1.0
"""Tolerance of rounded images: a value on the edge between two grey levels may round either way."""

RELATIVE = 1e-5
"""Tolerance of latents, of the largest value, or of UNIT where all are smaller."""

UNIT = 1.0
"""The standard deviation of latents under a normal prior: what is nothing beside it, such as what an encoder makes of images
that are all black, may be off by as much as a part of it."""

DIFFERING = 0.001
"""Largest share of an image's values that may differ at all."""


def verify(
    file: str,
    graph: onnx.ModelProto,
    inputs: Arrays,
    networks: Callable[[Arrays], Arrays],
    in_float64: Callable[[Arrays], Arrays] | None = None,
    *,
    is_exact: bool,
) -> tuple[Parity, Arrays]:
    """Run `graph`, to be known as `file`, on inputs of max(BATCH_SIZES) rows.

    networks: inputs -> what they give by name, images as unrounded grey levels (N, H, W, C) float32. in_float64: the same by
    float64, None where nobody can tell.

    Returns what was seen, for the manifest, and the graph's outputs by name.

    Raises: ParityError, naming the graph, the batch size and the figure, and whether a side gave other values when it was
    run again.
    """
    expected = networks(inputs)
    try:
        return _compare(file, graph, inputs, expected, in_float64, is_exact=is_exact)
    except ParityError as error:
        raise ParityError(f"{error}{_unsteady_sides(graph, inputs, expected, networks)}") from None


def _unsteady_sides(
    graph: onnx.ModelProto, inputs: Arrays, expected: Arrays, networks: Callable[[Arrays], Arrays]
) -> str:
    """Which side does not give again what it gave, in words; nothing where both do: then the graph is another function."""
    shown = unrounded(graph) or graph
    sides = {
        "the networks": (expected, networks(inputs)),
        "onnxruntime": (run(session(shown), inputs), run(session(shown), inputs)),
    }
    apart = {
        side: max(float(np.abs(first[name].astype(np.float64) - second[name]).max()) for name in first)
        for side, (first, second) in sides.items()
        if any(not np.array_equal(first[name], second[name], equal_nan=first[name].dtype.kind == "f") for name in first)
    }
    if not apart:
        return ""
    sentences = [f"{side}, run again, gave other values, by {error:.3g}" for side, error in apart.items()]
    return f"; {' and '.join(sentences)}: this machine computes it in more than one way; export again"


def _compare(
    file: str,
    graph: onnx.ModelProto,
    inputs: Arrays,
    expected: Arrays,
    in_float64: Callable[[Arrays], Arrays] | None,
    *,
    is_exact: bool,
) -> tuple[Parity, Arrays]:
    ready = session(graph)
    whole = _run_at_all_sizes(file, ready, inputs)
    parity = Parity(unit="grey_levels" if IMAGES in expected else "relative", batch_sizes=batch_sizes(ready))
    if IMAGES in expected:
        _compare_images(parity, whole[IMAGES], to_bytes(expected[IMAGES]))
    else:
        _compare_latents(parity, whole, expected)
    if is_exact:
        parity.tolerance = GREY_LEVELS if IMAGES in expected else RELATIVE
        _check(file, parity)
        floats = unrounded(graph) if IMAGES in expected else None
        if floats is not None:
            levels = run(session(floats), inputs)[IMAGES]
            parity.unrounded_error = _apart(levels, expected[IMAGES])
            allowed = UNROUNDED
            if not parity.unrounded_error <= allowed and in_float64:
                exact = in_float64(inputs)[IMAGES]
                allowed = max(allowed, LOSSES * min(_apart(levels, exact), _apart(expected[IMAGES], exact)))
            if not parity.unrounded_error <= allowed:
                raise ParityError(
                    f"{file}: images before rounding are off by {parity.unrounded_error:.3g} of 255 at batch size "
                    f"{max(BATCH_SIZES)}, allowed are {allowed:.3g}"
                )
    return parity, whole


def _apart(images: npt.NDArray[np.floating], others: npt.NDArray[np.floating]) -> float:
    """The largest difference of unrounded grey levels, of 255."""
    return float(np.abs(images - others).max() / 255)


def batch_sizes(graph: Session) -> list[int]:
    """The batch sizes that there is memory for."""
    return [size for size in BATCH_SIZES if size <= graph.rows] or [1]


def _run_at_all_sizes(file: str, graph: Session, inputs: Arrays) -> Arrays:
    """Outputs of all rows. Raises: ParityError, if one of the batch sizes gives other bytes."""
    rows = max(BATCH_SIZES)
    whole = run(graph, inputs)
    for size in batch_sizes(graph):
        pieces = [run(graph, piece) for piece in split(inputs, size)]
        for name, values in whole.items():
            pieced = np.concatenate([piece[name] for piece in pieces])
            if not np.array_equal(pieced, values, equal_nan=pieced.dtype.kind == "f"):
                row = int(np.flatnonzero((pieced != values).reshape(rows, -1).any(1))[0])
                raise ParityError(
                    f"{file}: {name} row {row} at batch size {size} is not that of batch size {min(rows, graph.rows)}"
                )
    return whole


def _compare_images(parity: Parity, images: npt.NDArray[np.generic], expected: npt.NDArray[np.uint8]) -> None:
    error = np.abs(images.astype(np.float64) - expected)
    parity.worst_error, parity.mean_error = float(error.max()), float(error.mean())
    parity.differing, parity.beyond_one = float((error > 0).mean()), float((error > 1).mean())
    if parity.worst_error > 0:
        parity.psnr_db = 10 * math.log10(255**2 / float(np.square(error).mean()))


def _compare_latents(parity: Parity, latents: Arrays, expected: Arrays) -> None:
    """Errors relative to the largest value, into `parity`; of several outputs the worst counts."""
    for name, reference in expected.items():
        error = np.abs(latents[name].astype(np.float64) - reference) / max(float(np.abs(reference).max()), UNIT)
        worst = float(error.max())
        # Written so that NaN, which compares false with everything, is kept.
        parity.worst_error = worst if not worst <= parity.worst_error else parity.worst_error
        parity.mean_error = max(parity.mean_error, float(error.mean()))
        parity.differing = max(parity.differing, float((error > 0).mean()))


def _check(file: str, parity: Parity) -> None:
    rows = max(BATCH_SIZES)
    what = "images" if parity.unit == "grey_levels" else "latents"
    # Written so that NaN fails.
    if not parity.worst_error <= parity.tolerance:
        raise ParityError(
            f"{file}: {what} are off by {parity.worst_error:.3g} {parity.unit} at batch size {rows}, "
            f"allowed are {parity.tolerance:.3g}"
        )
    if what == "images" and parity.differing > DIFFERING:
        raise ParityError(
            f"{file}: {parity.differing:.2%} of the values differ at batch size {rows}, allowed are {DIFFERING:.2%}"
        )
