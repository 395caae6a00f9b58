"""The outputs of an encoder from elsewhere as a bundle's mean and log variance.

    outputs, shape of a latent, options -> posterior_of() -> Posterior: of() in numpy, append() the same to a graph

    (N, 2C, H, W)              mean | log variance, as diffusers' "latent_parameters"
    (N, C, H, W), (N, C, H, W) mean and log variance, told apart by their names
    (N, C, H, W)               a latent, as TAESD's: its log variance is LEAST

and the same of vectors. latent = (the file's - shift) * factor, flat.
"""

import math
import re
from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir

from export.errors import ImportRefused
from export.graphs import BATCH
from export.onnx_import.file import described
from export.onnx_import.options import ImportOptions
from export.onnx_import.outputs import named_output
from export.onnx_import.signature import Scaling
from export.sessions import Arrays

LEAST, MOST = -30.0, 20.0
"""Bounds of a log variance, as diffusers has them. LEAST, a standard deviation of 3e-7, is nothing beside a latent's rounding: what
an encoder has that gives the latent itself."""

_LOG_VARIANCE = re.compile(r"log_?var|logsigma2|ln_?var", re.IGNORECASE)
_MEAN = re.compile(r"mean|(^|[^a-z])mu([^a-z]|$)", re.IGNORECASE)


class Posterior(NamedTuple):
    """outputs: of the file, the mean's first. axis: along which the only one has mean and log variance; None where it has not."""

    outputs: list[str]
    axis: int | None
    scaling: Scaling
    noise_dim: int
    words: str

    @property
    def has_variance(self) -> bool:
        """Whether the file gives a log variance."""
        return self.axis is not None or len(self.outputs) == 2

    @property
    def _log_scale(self) -> float:
        """What the scaling adds to a log variance."""
        return 2 * math.log(abs(self.scaling.factor))

    def of(self, found: Arrays) -> Arrays:
        """found: the file's outputs. Returns mean and log_variance (N, Z) float32."""
        arrays = [found[each].astype(np.float32) for each in self.outputs]
        if self.axis is not None:
            arrays = np.split(arrays[0], 2, self.axis)
        mean = (arrays[0] - np.float32(self.scaling.shift)) * np.float32(self.scaling.factor)
        log_variance = np.full_like(mean, LEAST)
        if self.has_variance:
            log_variance = arrays[1].clip(LEAST, MOST) + np.float32(self._log_scale)
        return {"mean": mean.reshape(len(mean), -1), "log_variance": log_variance.reshape(len(mean), -1)}

    def append(self, tape: ir.tape.Tape, outputs: list[ir.Value]) -> list[ir.Value]:
        """outputs: of the graph, in the order of `outputs`. Returns mean and log_variance."""

        def constant(number: float, name: str) -> ir.Value:
            return tape.initializer(ir.tensor(np.float32(number), name=f"posterior_{name}"))

        values = [
            value
            if value.dtype == ir.DataType.FLOAT
            else tape.op("Cast", [value], attributes={"to": ir.DataType.FLOAT})
            for value in outputs
        ]
        if self.axis is not None:
            values = list(
                tape.op_multi_out("Split", values, num_outputs=2, attributes={"axis": self.axis, "num_outputs": 2})
            )
        flat = tape.initializer(ir.tensor([0, self.noise_dim], name="posterior_shape"))
        values = [tape.op("Reshape", [value, flat]) for value in values]
        mean = tape.op("Sub", [values[0], constant(self.scaling.shift, "shift")])
        mean = tape.op("Mul", [mean, constant(self.scaling.factor, "factor")])
        if self.has_variance:
            log_variance = tape.op("Clip", [values[1], constant(LEAST, "least"), constant(MOST, "most")])
            log_variance = tape.op("Add", [log_variance, constant(self._log_scale, "log_scale")])
        else:
            log_variance = tape.op("Expand", [constant(LEAST, "least"), tape.op("Shape", [mean])])
        for value, name in ((mean, "mean"), (log_variance, "log_variance")):
            value.name, value.dtype, value.shape = name, ir.DataType.FLOAT, ir.Shape([BATCH, self.noise_dim])
        return [mean, log_variance]


def posterior_of(
    model: onnx.ModelProto, shapes: dict[str, list[int]], latent: list[int], scaling: Scaling, options: ImportOptions
) -> Posterior:
    """shapes: of the outputs' rows, by name. latent: of what the decoder takes. Raises: ImportRefused, with all outputs."""
    names = [named_output(model, options.output).name] if options.output else list(shapes)
    alike = [name for name in names if shapes[name] == latent]
    doubled = {name: axis for name in names if (axis := _doubled_axis(shapes[name], latent)) is not None}
    size = math.prod(latent)
    if len(doubled) == 1 and not alike:
        ((name, axis),) = doubled.items()
        words = f"{name} is mean and log variance, the halves of axis {axis}"
        return Posterior([name], axis, scaling, size, words)
    if len(alike) == 1 and not doubled:
        words = f"{alike[0]} is the latent itself: its log variance is told as {LEAST:g}"
        return Posterior(alike, None, scaling, size, words)
    log_variances = [name for name in alike if _LOG_VARIANCE.search(name)]
    others = [name for name in alike if name not in log_variances]
    means = others if len(others) == 1 else [name for name in others if _MEAN.search(name)]
    if len(log_variances) == len(means) == 1 and not doubled:
        words = f"{means[0]} is the mean, {log_variances[0]} its log variance (by their names)"
        return Posterior([means[0], log_variances[0]], None, scaling, size, words)
    rows = ", ".join(map(str, latent))
    raise ImportRefused(
        f"outputs of the encoder: got {described(model.graph.output)}; its decoder takes latents (N, {rows}): allowed are such a "
        "latent, one twice as long in one axis (mean and log variance), or two, one with log_var in its name; --output tells which "
        "is taken"
    )


def _doubled_axis(shape: list[int], latent: list[int]) -> int | None:
    """The axis, counted with the batch, in which `shape` is twice `latent`, and the same in all others."""
    if len(shape) != len(latent):
        return None
    apart = [axis for axis, (given, wanted) in enumerate(zip(shape, latent, strict=True), 1) if given != wanted]
    return apart[0] if len(apart) == 1 and shape[apart[0] - 1] == 2 * latent[apart[0] - 1] else None
