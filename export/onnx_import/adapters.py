"""The first nodes of an imported graph: a bundle's inputs made into the file's own, as `Signature.feed` makes them in numpy.

noise (N, Z) -> unscaled -> in the file's shape        label (N,) -> index, column or one-hot, in its type
what the file takes of no values                    -> a slice of the noise, of no values
"""

import numpy as np
import onnx
import onnx_ir as ir

from export.graphs import BATCH
from export.onnx_import.conversion import PREFIX
from export.onnx_import.signature import Label, Scaling, Signature


def adapt_inputs(model: ir.Model, signature: Signature) -> None:
    """Let `model`, a converted file, take `noise` (N, Z) float32 and, where it has labels, `label` (N,) int64."""
    graph = model.graph
    tape = ir.tape.Tape()
    noise = ir.val("noise", ir.DataType.FLOAT, [BATCH, signature.noise_dim])
    label = ir.val("label", ir.DataType.INT64, [BATCH])
    made = {signature.noise.name: _noise(tape, noise, signature)}
    if signature.label is not None:
        made[signature.label.value.name] = _label(tape, label, signature.label)
    for each in signature.empty:
        bounds = [tape.initializer(ir.tensor([number], name=f"empty_{number}")) for number in (0, 1)]
        nothing = tape.op("Slice", [noise, bounds[0], bounds[0], bounds[1]])
        made[each.name] = _cast(tape, nothing, each, ir.DataType.FLOAT)
    for value in graph.inputs:
        assert value.name is not None, "inputs have names"
        value.replace_all_uses_with(made[value.name.removeprefix(PREFIX)])
    graph.inputs[:] = [noise, label] if signature.label is not None else [noise]
    for initializer in tape.initializers:
        graph.register_initializer(initializer)
    graph.insert_before(graph[0], tape.nodes)


def _noise(tape: ir.tape.Tape, noise: ir.Value, signature: Signature) -> ir.Value:
    value = _unscaled(tape, noise, signature.scaling)
    shape = tape.initializer(ir.tensor([0, *signature.noise_shape], name="noise_shape"))
    return tape.op("Reshape", [value, shape])


def _unscaled(tape: ir.tape.Tape, latents: ir.Value, scaling: Scaling) -> ir.Value:
    if scaling.factor != 1:
        latents = tape.op("Div", [latents, _number(tape, scaling.factor, "scaling_factor")])
    if scaling.shift != 0:
        latents = tape.op("Add", [latents, _number(tape, scaling.shift, "shift_factor")])
    return latents


def _label(tape: ir.tape.Tape, label: ir.Value, wanted: Label) -> ir.Value:
    if wanted.form == "one-hot":
        depth = tape.initializer(ir.tensor([wanted.classes], name="classes"))
        off_and_on = tape.initializer(ir.tensor(np.array([0, 1], np.float32), name="off_and_on"))
        return _cast(tape, tape.op("OneHot", [label, depth, off_and_on]), wanted.value, ir.DataType.FLOAT)
    value = label
    if wanted.form == "column":
        value = tape.op("Unsqueeze", [value, tape.initializer(ir.tensor([1], name="column"))])
    return _cast(tape, value, wanted.value, ir.DataType.INT64)


def _cast(tape: ir.tape.Tape, value: ir.Value, wanted: onnx.ValueInfoProto, dtype: ir.DataType) -> ir.Value:
    """`value`, which is of `dtype`, in the type of the file's input."""
    to = ir.DataType(wanted.type.tensor_type.elem_type)
    return value if to == dtype else tape.op("Cast", [value], attributes={"to": to})


def _number(tape: ir.tape.Tape, number: float, name: str) -> ir.Value:
    return tape.initializer(ir.tensor(np.float32(number), name=name))
