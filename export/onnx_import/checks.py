"""What a graph from elsewhere must do to be served, tried on its file as it came.

model, Reference, rows -> a batch of any size, the same again, the same alone -> the same when converted
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx

from export.errors import ImportRefused
from export.graphs import OPSET
from export.onnx_import.conversion import PREFIX
from export.onnx_import.reference import Reference, baked_in, with_free_batch
from export.sessions import Arrays

CONVERSION_GREY_LEVELS = 0.01
"""Grey levels by which a conversion to another opset may change what is drawn."""

REPEAT_PART = 0.01
"""Part of the largest value by which equal rows may give other values, by the order of sums; `verify` requires the same bytes."""


def of_any_batch(
    name: str, model: onnx.ModelProto, reference: Reference, feed: Arrays, outputs: Sequence[str]
) -> tuple[onnx.ModelProto, str]:
    """`model`, if it gives as many rows as it gets; else with the row that is baked in set free, where that is in shapes alone.

    Returns with it the nodes that a row stays baked into, "" if there are none: it has to be run row by row then, as
    `reference` is from now on.

    Raises: ImportRefused, if it does not run, or mixes the rows of a batch.
    """
    rows = len(next(iter(feed.values())))
    try:
        together = _taken(reference(feed), outputs)
        if _are_rows(together, rows):
            return model, ""
        problem = f"{name}: gives {len(together[0])} images for {rows} rows"
    except ImportRefused as error:
        together, problem = [], str(error)
    reference.run_by_row()
    try:
        by_row = _taken(reference(feed), outputs)
    except ImportRefused:
        raise ImportRefused(problem) from None
    if not _are_rows(by_row, rows):
        raise ImportRefused(f"{name}: gives {len(by_row[0])} images for {rows} rows, one after the other")
    freed = with_free_batch(model)
    try:
        at_once = _taken(Reference(name, freed)(feed), outputs)
    except ImportRefused:
        at_once = []
    if at_once and all(map(_near, at_once, by_row)):
        return freed, ""
    if together and not _has_one_row(model):
        raise ImportRefused(
            f"{problem}, and draws one image of a row alone: it mixes the rows of a batch (a mean or sum over axis 0), or a batch "
            f"of 1 is baked into {baked_in(model)}; export it with a batch axis that is dynamic: torch.onnx.export takes "
            "dynamic_shapes, or dynamic_axes"
        )
    return model, baked_in(model)


def check_rows(name: str, reference: Reference, feed: Arrays, outputs: Sequence[str]) -> list[npt.NDArray[np.generic]]:
    """What the outputs are for `feed`, where the same row gives the same whatever it is run beside."""
    row = {key: array[:1] for key, array in feed.items()}
    together, again, alone = (_taken(reference(inputs), outputs) for inputs in (feed, feed, row))
    for whole, repeated, first in zip(together, again, alone, strict=True):
        near = REPEAT_PART * float(np.nan_to_num(np.abs(whole).max(initial=0), posinf=0.0))
        if not np.allclose(whole, repeated, rtol=0, atol=near, equal_nan=True):
            raise ImportRefused(
                f"{name}: draws other images of the same noise when it is run again; export it without noise of its own, in "
                "eval mode"
            )
        if not np.allclose(whole[:1], first, rtol=0, atol=near, equal_nan=True):
            raise ImportRefused(
                f"{name}: an image depends on the others of its batch (statistics of a batch, a softmax or mean over axis 0); "
                "callers' images are run beside each other: export it in eval mode"
            )
    return together


def check_conversion(
    name: str,
    converted: onnx.ModelProto,
    feed: Arrays,
    expected: npt.NDArray[np.float32],
    read: Callable[[Arrays], npt.NDArray[np.float32]],
    allowed: float = CONVERSION_GREY_LEVELS,
    unit: str = "grey levels",
) -> None:
    """read: the converted graph's outputs, by the file's names -> what is compared with `expected`.

    Raises: ImportRefused, if the converted graph is another function than the file.
    """
    outputs = Reference(name, converted)({PREFIX + key: array for key, array in feed.items()})
    got = read({key.removeprefix(PREFIX): array for key, array in outputs.items()})
    error = float(np.abs(got - expected).max())
    # Written so that NaN is refused.
    if not error <= allowed:
        raise ImportRefused(
            f"{name}: converted to opset {OPSET} by onnx, it draws other images, off by {error:.3g} {unit}; export it "
            f"with opset {OPSET}, which torch.onnx.export takes as opset_version"
        )


def _taken(found: Arrays, outputs: Sequence[str]) -> list[npt.NDArray[np.generic]]:
    return [found[each] for each in outputs]


def _are_rows(arrays: Sequence[npt.NDArray[np.generic]], rows: int) -> bool:
    return all(array.ndim > 0 and len(array) == rows for array in arrays)


def _near(left: npt.NDArray[np.generic], right: npt.NDArray[np.generic]) -> bool:
    return left.shape == right.shape and np.allclose(left, right, rtol=1e-4, atol=1e-4, equal_nan=True)


def _has_one_row(model: onnx.ModelProto) -> bool:
    """Whether the file says that it is made for one row: then nothing is mixed, though it gives one image of many rows."""
    return all([dim.dim_value for dim in value.type.tensor_type.shape.dim[:1]] == [1] for value in model.graph.input)
