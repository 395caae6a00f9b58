"""Which output of a file from elsewhere is taken: the one named, the only one, or the only one that can be images.

model, options -> only_output() -> its tensor, now the model's only output
"""

from math import prod

import onnx

from export.errors import ImportRefused
from export.onnx_import.file import FLOATS, described
from export.onnx_import.options import CHANNELS, WITH_ALPHA, ImageShape, ImportOptions


def only_output(model: onnx.ModelProto, options: ImportOptions) -> onnx.ValueInfoProto:
    """The images, as the only output that `model` is left with. Raises: ImportRefused, with all of them."""
    outputs = list(model.graph.output)
    if options.output:
        chosen = named_output(model, options.output)
    elif len(outputs) == 1:
        (chosen,) = outputs
    else:
        images = [each for each in outputs if _can_be_images(each, options.shape)]
        if len(images) != 1:
            which = f"{len(images)} of them" if images else "none of them"
            raise ImportRefused(
                f"outputs: got {described(outputs)}; {which} can be images: --output tells which is taken, "
                "--shape the shape of an image whose values come flat"
            )
        (chosen,) = images
    keep_outputs(model, [chosen])
    return chosen


def named_output(model: onnx.ModelProto, name: str) -> onnx.ValueInfoProto:
    """Raises: ImportRefused, if there is none of this name."""
    for each in model.graph.output:
        if each.name == name:
            return each
    raise ImportRefused(f"output: got {name!r}; the graph has {described(model.graph.output)}")


def keep_outputs(model: onnx.ModelProto, kept: list[onnx.ValueInfoProto]) -> None:
    """Let `model` give nothing but these, in this order."""
    copies = [onnx.ValueInfoProto.FromString(each.SerializeToString()) for each in kept]
    del model.graph.output[:]
    model.graph.output.extend(copies)


def _can_be_images(value: onnx.ValueInfoProto, shape: ImageShape | None) -> bool:
    """By its declared type and shape; sizes that are left open can be any."""
    kind = value.type.tensor_type
    if kind.elem_type not in (*FLOATS, onnx.TensorProto.UINT8):
        return False
    if not kind.HasField("shape"):
        return True
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim][1:]
    if len(sizes) == 3:
        places = ((sizes[0], sizes[1:]), (sizes[2], sizes[:2]))
        return any(channels in (*CHANNELS, WITH_ALPHA, None) and 1 not in others for channels, others in places)
    if shape is None or not sizes:
        return False
    known = [size for size in sizes if size is not None]
    channels = [each for each in (*CHANNELS, WITH_ALPHA) if shape.channels in (None, each)]
    return len(known) < len(sizes) or prod(known) in [shape.height * shape.width * each for each in channels]
