"""ONNX files as other makers write them, node by node, and the judge of what is published of one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from export.golden import golden_inputs
from export.onnx_import.generator import from_onnx
from export.publish import publish
from export.sessions import run, session

FLOAT = onnx.TensorProto.FLOAT
RANDOM = np.random.default_rng(0)
Z = 8


def weights(*shape: int, scale: float = 1.0, offset: float = 0.0) -> np.ndarray:
    return (scale * RANDOM.standard_normal(shape) + offset).astype(np.float32)


class Net:
    """A chain of nodes from z (N, 8), projected to (N, 3, 8, 8) first."""

    def __init__(self, opset: int = 17, rows: int = -1) -> None:
        self.opset, self.nodes, self.weights, self.last = opset, list[onnx.NodeProto](), list[onnx.TensorProto](), "z"
        self.then("MatMul", weights(Z, 192, scale=0.4))
        self.then("Reshape", np.array([rows, 3, 8, 8]))

    def then(self, operator: str, *arrays: Any, **attributes: Any) -> "Net":
        names = []
        for array in arrays:
            names.append(f"w{len(self.weights)}" if array is not None else "")
            if array is not None:
                self.weights.append(numpy_helper.from_array(np.asarray(array), names[-1]))
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [self.last, *names], [output], output, **attributes))
        self.last = output
        return self

    def saved(self, folder: Path, shape: Sequence[int | str] = ("N", 3, "H", "W"), **options: Any) -> Path:
        body = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("z", FLOAT, ["N", Z]), *options.pop("inputs", [])],
            [helper.make_tensor_value_info(self.last, FLOAT, list(shape))],
            self.weights,
        )
        model = helper.make_model(body, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        path = folder / "net.onnx"
        onnx.save(model, path)
        return path


def assert_draws_as_it_came(path: Path, black: float = -1.0, white: float = 1.0) -> None:
    """The published graph against onnxruntime on the file itself, in grey levels."""
    source = from_onnx(path)
    publish(source, path.parent / "models", "net")
    noise = golden_inputs(32, Z, 0, seed=3)["noise"]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    as_it_came = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rows = [as_it_came.run(None, {"z": noise[row : row + 1]})[0] for row in range(32)]
    expected = (np.concatenate(rows).transpose(0, 2, 3, 1) - black) * 255 / (white - black)
    got = run(session(source.graphs["generator"]), {"noise": noise})["images"]
    assert np.abs(got - expected.clip(0, 255)).max() < 0.51
