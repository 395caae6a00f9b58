"""The input of one number that many generators have beside their noise, the truncation, as a constant of the graph.

model, --truncation -> with_truncation() -> the input is gone, its value told in words

A bundle's requests scale the noise themselves; what a file does by such a number is decided once, at its import.
"""

import re

import numpy as np
import onnx

from export.errors import ImportRefused
from export.onnx_import.file import FLOATS, described, is_number

_NAMED = re.compile(r"trunc|(^|[^a-z])psi([^a-z]|$)", re.IGNORECASE)
"""Names of weights that are a truncation's default: the ONNX of an input that need not be given."""


def with_truncation(model: onnx.ModelProto, value: float | None) -> str:
    """Fix the input of one number in `model`, if it has one, at `value`, by default 1; an initializer's stays by default.

    Returns what was done in words; "" where there is nothing to fix. Raises: ImportRefused, if `value` has no place.
    """
    numbers = [each for each in model.graph.input if is_number(each)]
    if len(numbers) > 1:
        raise ImportRefused(
            f"inputs: got {described(numbers)}; of one number each there may be one, the truncation, which --truncation fixes; "
            "export the others as constants"
        )
    if numbers:
        (number,) = numbers
        fixed = 1.0 if value is None else value
        model.graph.input.remove(number)
        model.graph.initializer.append(_tensor(number.name, number.type.tensor_type, fixed))
        return f"{number.name} is fixed at {fixed:g} ({'by' if value is not None else 'by default;'} --truncation)"
    defaults = [
        each
        for each in model.graph.initializer
        if each.data_type in FLOATS and np.prod(each.dims) == 1 and _NAMED.search(each.name)
    ]
    if value is None:
        return "".join(f"{each.name} is {_value(each):g}, as in the file" for each in defaults if len(defaults) == 1)
    if len(defaults) != 1:
        raise ImportRefused(
            f"truncation: got {value:g}, but the graph has no input of one number: {described(model.graph.input)}"
        )
    (default,) = defaults
    array = np.full(tuple(default.dims), value, onnx.numpy_helper.to_array(default).dtype)
    default.CopyFrom(onnx.numpy_helper.from_array(array, default.name))
    return f"{default.name} is fixed at {value:g} (by --truncation)"


def _tensor(name: str, kind: onnx.TypeProto.Tensor, value: float) -> onnx.TensorProto:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    return onnx.numpy_helper.from_array(np.full([1] * len(kind.shape.dim), value, dtype), name)


def _value(tensor: onnx.TensorProto) -> float:
    return float(onnx.numpy_helper.to_array(tensor).flat[0])
