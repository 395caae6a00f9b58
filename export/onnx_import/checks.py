"""What a generator from elsewhere must do to be served, tried on its file as it came.

model, Reference, noise -> a batch of any size, the same again, the same alone -> the same when converted
"""

import numpy as np
import numpy.typing as npt
import onnx

from export.errors import ImportRefused
from export.graphs import OPSET
from export.onnx_import.conversion import PREFIX
from export.onnx_import.reference import Reference, baked_in, with_free_batch
from export.onnx_import.signature import Signature
from export.pixels import Pixels
from export.sessions import Arrays

CONVERSION_GREY_LEVELS = 0.01
"""Grey levels by which a conversion to another opset may change what is drawn."""

REPEAT_PART = 0.01
"""Part of the largest value by which equal noise may give other values, by the order of sums; `verify` requires the same bytes."""


def of_any_batch(name: str, model: onnx.ModelProto, reference: Reference, feed: Arrays, pixels: str) -> onnx.ModelProto:
    """`model`, if it draws as many images as it gets noise; else with the row that is baked in set free.

    Raises: ImportRefused, if it does not run, or is made for one row alone.
    """
    rows = len(next(iter(feed.values())))
    try:
        if len(reference(feed)[pixels]) == rows:
            return model
        problem = f"{name}: gives {len(reference(feed)[pixels])} images for {rows} rows of noise"
    except ImportRefused as error:
        problem = str(error)
    reference.run_by_row()
    try:
        by_row = reference(feed)[pixels]
    except ImportRefused:
        raise ImportRefused(problem) from None
    if len(by_row) != rows:
        raise ImportRefused(f"{name}: gives {len(by_row)} images for {rows} rows of noise, one after the other")
    freed = with_free_batch(model)
    try:
        together = Reference(name, freed)(feed)[pixels]
    except ImportRefused:
        together = by_row[:0]
    if together.shape != by_row.shape or not np.allclose(together, by_row, rtol=1e-4, atol=1e-4, equal_nan=True):
        raise ImportRefused(
            f"{name}: draws one image at a time, a batch of 1 is baked into {baked_in(model)}; export it with a batch axis "
            "that is dynamic: torch.onnx.export takes dynamic_shapes, or dynamic_axes"
        )
    return freed


def check_rows(name: str, reference: Reference, signature: Signature, trial: Arrays) -> int:
    """The number of an image's values, where the same noise gives the same image whatever it is drawn beside."""
    row = {key: array[:1] for key, array in trial.items()}
    together, again, alone = (
        reference(signature.feed(inputs))[signature.pixels.name] for inputs in (trial, trial, row)
    )
    near = REPEAT_PART * float(np.nan_to_num(np.abs(together).max(), posinf=0.0))
    if not np.allclose(together, again, rtol=0, atol=near, equal_nan=True):
        raise ImportRefused(
            f"{name}: draws other images of the same noise when it is run again; export it without noise of its own, in "
            "eval mode"
        )
    if not np.allclose(together[:1], alone, rtol=0, atol=near, equal_nan=True):
        raise ImportRefused(
            f"{name}: an image depends on the others of its batch (statistics of a batch, a softmax or mean over axis 0); "
            "callers' images are drawn beside each other: export it in eval mode"
        )
    return int(alone.size)


def check_conversion(
    name: str,
    converted: onnx.ModelProto,
    signature: Signature,
    trial: Arrays,
    expected: npt.NDArray[np.float32],
    pixels: Pixels,
) -> None:
    """Raises: ImportRefused, if the converted graph is another function than the file."""
    feed = {PREFIX + key: array for key, array in signature.feed(trial).items()}
    got = pixels.grey_levels(Reference(name, converted)(feed)[PREFIX + signature.pixels.name])
    error = float(np.abs(got - expected).max())
    # Written so that NaN is refused.
    if not error <= CONVERSION_GREY_LEVELS:
        raise ImportRefused(
            f"{name}: converted to opset {OPSET} by onnx, it draws other images, off by {error:.3g} grey levels; export it "
            f"with opset {OPSET}, which torch.onnx.export takes as opset_version"
        )
