"""ONNX files of small generators in the forms that people export, and what a person would feed each of them.

Sources of the forms: StyleGAN's pickles (labels of no class, truncation), BigGAN by tf2onnx (one-hot labels, truncation), Keras
(labels in a column), VAEs of tutorials (flat pixels), RGBA generators, exports in half and double precision.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from export.onnx_import.options import DEFAULTS, ImageShape, ImportOptions
from tests.fakes.nets import Z, weights

FLOAT, HALF, DOUBLE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE
CLASSES = ("a", "b", "c")

Feed = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]


class Form(NamedTuple):
    """feed: noise (N, Z), label (N,) -> inputs of the file. levels: what it gives -> grey levels (N, H, W, C)."""

    inputs: list[onnx.ValueInfoProto]
    outputs: list[onnx.ValueInfoProto]
    nodes: list[onnx.NodeProto]
    arrays: dict[str, np.ndarray]
    feed: Feed
    levels: Callable[[np.ndarray], np.ndarray] = lambda images: images.transpose(0, 2, 3, 1) * 127.5 + 127.5
    options: ImportOptions = DEFAULTS

    def saved(self, folder: Path) -> Path:
        return saved(folder / "form.onnx", self.inputs, self.outputs, self.nodes, self.arrays)

    def drawn(self, path: Path, noise: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Grey levels of the file as it came, row by row, by onnxruntime."""
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        rows = [
            session.run(["img"], self.feed(noise[row : row + 1], label[row : row + 1]))[0] for row in range(len(noise))
        ]
        return self.levels(np.concatenate(rows).astype(np.float32)).clip(0, 255)


def saved(
    path: Path,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    nodes: Sequence[onnx.NodeProto],
    arrays: dict[str, np.ndarray],
) -> Path:
    """An ONNX file of opset 17."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "form", inputs, outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def value(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


NOISE, IMAGE = value("z", FLOAT, "n", Z), value("img", FLOAT, "n", 3, 8, 8)


def only_noise(noise: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
    return {"z": noise}


def drawing(
    source: str = "z", channels: int = 3, kind: Any = np.float32
) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """Nodes from a tensor (N, 8) to images (N, C, 8, 8) in -1..1, and their weights."""
    nodes = [node("MatMul", f"{source} W", "a"), node("Reshape", "a s", "b"), node("Tanh", "b", "img")]
    return nodes, {"W": weights(Z, channels * 64, scale=0.4).astype(kind), "s": np.array([-1, channels, 8, 8])}


def with_inputs(front: list[onnx.NodeProto], source: str, others: Any, feed: Feed, **more: Any) -> Form:
    """A generator of `source`, which the nodes of `front` make of z and of other inputs. more: arrays; options."""
    nodes, arrays = drawing(source)
    options = more.pop("options", DEFAULTS)
    return Form([NOISE, *others], [IMAGE], [*front, *nodes], {**arrays, **more}, feed, options=options)


def labelled(kind: int) -> Form:
    """Labels in a column, of an integer type."""
    front = [node("Gather", "E y", "e"), node("Squeeze", "e one", "e2"), node("Add", "z e2", "zy")]
    dtype = np.int32 if kind == TensorProto.INT32 else np.int64
    return with_inputs(
        front,
        "zy",
        [value("y", kind, "n", 1)],
        lambda noise, label: {"z": noise, "y": label[:, None].astype(dtype)},
        E=weights(3, Z),
        one=np.array([1]),
        options=ImportOptions(labels=CLASSES),
    )


def one_hot(kind: Any = np.float32, options: ImportOptions = ImportOptions(labels=CLASSES)) -> Form:  # noqa: B008
    elements = {np.float32: FLOAT, np.float64: DOUBLE}[kind]
    front = [node("Cast", "y", "y1", to=FLOAT), node("MatMul", "y1 E", "e"), node("Add", "z e", "zy")]
    return with_inputs(
        front,
        "zy",
        [value("y", elements, "n", 3)],
        lambda noise, label: {"z": noise, "y": np.eye(3, dtype=kind)[label]},
        E=weights(3, Z),
        options=options,
    )


def truncated(truncation: float | None, *shape: int) -> Form:
    fixed = 1.0 if truncation is None else truncation
    return with_inputs(
        [node("Mul", "z psi", "zp")],
        "zp",
        [value("psi", FLOAT, *shape)],
        lambda noise, label: {"z": noise, "psi": np.full(shape, fixed, np.float32)},
        options=ImportOptions(truncation=truncation),
    )


def in_precision(kind: Any) -> Form:
    nodes, arrays = drawing(kind=kind)
    elements = HALF if kind == np.float16 else DOUBLE
    shape = value("z", elements, "n", Z), value("img", elements, "n", 3, 8, 8)
    return Form([shape[0]], [shape[1]], nodes, arrays, lambda noise, label: {"z": noise.astype(kind)})


def flat(channels: int, options: ImportOptions) -> Form:
    """Values in a row, channel after channel or, by --layout NHWC, pixel after pixel."""
    nodes = [node("MatMul", "z W", "a"), node("Sigmoid", "a", "img")]
    order = (-1, 7, 9, channels) if options.layout == "NHWC" else (-1, channels, 7, 9)

    def levels(images: np.ndarray) -> np.ndarray:
        shaped = images.reshape(order) * 255
        return shaped if options.layout == "NHWC" else shaped.transpose(0, 2, 3, 1)

    arrays = {"W": weights(Z, 63 * channels, scale=0.4)}
    return Form([NOISE], [value("img", FLOAT, "n", 63 * channels)], nodes, arrays, only_noise, levels, options)


def without_channels() -> Form:
    nodes = [node("MatMul", "z W", "a"), node("Reshape", "a s", "b"), node("Sigmoid", "b", "img")]
    arrays = {"W": weights(Z, 63), "s": np.array([-1, 7, 9])}
    return Form([NOISE], [value("img", FLOAT, "n", 7, 9)], nodes, arrays, only_noise, lambda y: y[..., None] * 255)


def rgba(
    background: tuple[int, int, int], is_last: bool = False, is_uint8: bool = False, from_zero: bool = False
) -> Form:
    """Colours in -1..1 with alpha in the same or in 0..1, or bytes."""
    nodes, arrays = drawing(channels=4)
    shape: list[int | str] = ["n", 4, 8, 8]
    nodes[-1] = node("Tanh", "b", "t")
    if from_zero:
        arrays |= {
            "half": np.float32([1, 1, 1, 0.5]).reshape(4, 1, 1),
            "up": np.float32([0, 0, 0, 0.5]).reshape(4, 1, 1),
        }
        nodes += [node("Mul", "t half", "h"), node("Add", "h up", "u")]
    elif is_uint8:
        arrays |= {"grey": np.float32(127.5)}
        nodes += [node("Mul", "t grey", "h"), node("Add", "h grey", "g"), node("Cast", "g", "u", to=TensorProto.UINT8)]
    else:
        nodes += [node("Identity", "t", "u")]
    if is_last:
        shape = ["n", 8, 8, 4]
    nodes.append(node("Transpose", "u", "img", perm=[0, 2, 3, 1] if is_last else [0, 1, 2, 3]))

    def levels(images: np.ndarray) -> np.ndarray:
        images = images if is_last else images.transpose(0, 2, 3, 1)
        colour, alpha = images[..., :3], images[..., 3:]
        if is_uint8:
            alpha = alpha / 255
        else:
            colour, alpha = colour * 127.5 + 127.5, alpha if from_zero else alpha / 2 + 0.5
        return colour * alpha + np.float32(background) * (1 - alpha)

    options = ImportOptions(background=None if background == (255, 255, 255) else background)
    output = value("img", TensorProto.UINT8 if is_uint8 else FLOAT, *shape)
    return Form([NOISE], [output], nodes, arrays, only_noise, levels, options)


def reshaped_noise(*shape: int) -> Form:
    form = with_inputs([node("Reshape", "z zs", "zf")], "zf", [], lambda z, _: {"z": z.reshape(-1, *shape)}, zs=[-1, Z])
    return form._replace(inputs=[value("z", FLOAT, "n", *shape)])


def several_outputs(output: str = "") -> Form:
    """Images beside the latents that they are of, and smaller images where one has to be chosen."""
    nodes, arrays = drawing()
    outputs = [value("w", FLOAT, "n", Z), IMAGE]
    nodes.append(node("Mul", "z z", "w"))
    if output:
        nodes.append(node("AveragePool", "img", "small", kernel_shape=[2, 2], strides=[2, 2]))
        outputs.append(value("small", FLOAT, "n", 3, 4, 4))
    return Form([NOISE], outputs, nodes, arrays, only_noise, options=ImportOptions(output=output))


def baked(is_labelled: bool = False) -> Form:
    """A batch of 1 in more than the shapes of reshapes: the row's own axis is lost on the way."""
    front = [node("Reshape", "z flat", "zf"), node("Unsqueeze", "zf zero", "zr")]
    others, more = [], {"flat": np.array([Z]), "zero": np.array([0])}
    feed, options, source = only_noise, DEFAULTS, "zr"
    if is_labelled:
        front += [node("Gather", "E y", "e"), node("Add", "zr e", "zy")]
        others, source, options = [value("y", TensorProto.INT64, 1)], "zy", ImportOptions(labels=CLASSES)
        more |= {"E": weights(3, Z)}
        feed = lambda noise, label: {"z": noise, "y": label}  # noqa: E731
    form = with_inputs(front, source, others, feed, options=options, **more)
    return form._replace(inputs=[value("z", FLOAT, 1, Z), *others], outputs=[value("img", FLOAT, 1, 3, 8, 8)])


FORMS: dict[str, Callable[[], Form]] = {
    "an input for labels of no class": lambda: with_inputs(
        [node("Concat", "z c", "zc", axis=1)],
        "zc",
        [value("c", FLOAT, "n", 0)],
        lambda noise, label: {"z": noise, "c": np.zeros((len(noise), 0), np.float32)},
    ),
    "a truncation, by default 1": lambda: truncated(None),
    "a truncation that is told": lambda: truncated(0.5),
    "a truncation of one axis": lambda: truncated(0.7, 1),
    "one-hot labels": one_hot,
    "one-hot labels in double precision": lambda: one_hot(np.float64),
    "labels in a column": lambda: labelled(TensorProto.INT64),
    "labels in a column of 32 bits": lambda: labelled(TensorProto.INT32),
    "an output beside the images": several_outputs,
    "several images, one of them chosen": lambda: several_outputs("img"),
    "half precision": lambda: in_precision(np.float16),
    "double precision": lambda: in_precision(np.float64),
    "flat grey pixels": lambda: flat(1, ImportOptions(shape=ImageShape(7, 9))),
    "flat pixels, channel after channel": lambda: flat(3, ImportOptions(shape=ImageShape(7, 9, 3), layout="NCHW")),
    "flat pixels, pixel after pixel": lambda: flat(3, ImportOptions(shape=ImageShape(7, 9), layout="NHWC")),
    "grey pixels without an axis for it": without_channels,
    "alpha over white": lambda: rgba((255, 255, 255)),
    "alpha over a colour": lambda: rgba((255, 128, 0), is_last=True),
    "alpha of its own range": lambda: rgba((0, 0, 0), from_zero=True),
    "alpha in bytes": lambda: rgba((10, 20, 30), is_uint8=True, is_last=True),
    "noise (N, Z, 1, 1)": lambda: reshaped_noise(Z, 1, 1),
    "noise (N, 1, 1, Z)": lambda: reshaped_noise(1, 1, Z),
    "noise that is a map": lambda: reshaped_noise(2, 2, 2),
    "a batch of 1 baked in": baked,
    "a batch of 1 baked in, with labels": lambda: baked(is_labelled=True),
}
