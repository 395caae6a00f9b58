"""What files of other makers say in other ways: constants, functions of their own, chance, images that mix, what is no ONNX."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from export.errors import ImportRefused
from export.onnx_import import drawing
from export.onnx_import.generator import from_onnx
from export.onnx_import.options import ImportOptions
from tests.fakes.nets import Net, assert_draws_as_it_came, weights


def with_constants(net: Net, operator: str, **values: Any) -> Net:
    """The next node, whose other inputs are given by Constant nodes with these attributes."""
    names = []
    for attribute, value in values.items():
        names.append(f"constant{len(net.nodes)}")
        kind = attribute.rstrip("_")
        net.nodes.append(helper.make_node("Constant", [], [names[-1]], **{kind: value}))
    output = f"v{len(net.nodes)}"
    net.nodes.append(helper.make_node(operator, [net.last, *names], [output], output))
    net.last = output
    return net


def with_function(folder: Path, opset: int, *body: onnx.NodeProto) -> Path:
    """A net of which `body`, x to y, is a function of the file's own."""
    path = Net(opset).then("Own", domain="local").then("Tanh").saved(folder)
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("local", 1))
    made = helper.make_function("local", "Own", ["x"], ["y"], list(body), [helper.make_opsetid("", opset)])
    model.functions.append(made)
    onnx.save(model, path)
    return path


def test_bounds_may_be_constants_of_any_kind(tmp_path: Path) -> None:
    net = Net().then("Mul", np.float32(0.05)).then("Add", np.float32(0.5))
    path = with_constants(net, "Clip", value_float=0.0, value_float_=1.0).saved(tmp_path)
    assert "range 0..1 (by Clip 'v6' at its end)" in from_onnx(path).note


def test_a_row_that_is_baked_into_a_constant_of_any_kind_is_set_free(tmp_path: Path) -> None:
    assert_draws_as_it_came(with_constants(Net(), "Reshape", value_ints=[1, 3, 8, 8]).then("Tanh").saved(tmp_path))


@pytest.mark.parametrize("opset", [17, 20])
def test_functions_of_the_files_own_are_kept(opset: int, tmp_path: Path) -> None:
    assert_draws_as_it_came(with_function(tmp_path, opset, helper.make_node("Add", ["x", "x"], ["y"])))


def test_chance_is_found_in_functions_too(tmp_path: Path) -> None:
    nodes = helper.make_node("RandomNormalLike", ["x"], ["r"]), helper.make_node("Add", ["x", "r"], ["y"])
    with pytest.raises(ImportRefused, match="RandomNormalLike 'r' draws noise of its own"):
        from_onnx(with_function(tmp_path, 17, *nodes))


def test_values_a_little_below_zero_are_not_taken_for_minus_one_to_one(tmp_path: Path) -> None:
    by_channel = np.float32([0.9, 0.8, 0.7]).reshape(3, 1, 1), np.float32([-0.05, -0.05, 0.1]).reshape(3, 1, 1)
    path = Net().then("Sigmoid").then("Mul", by_channel[0]).then("Add", by_channel[1]).saved(tmp_path)
    with pytest.raises(ImportRefused, match=r"got values from -0\.0.*--range tells"):
        from_onnx(path)
    assert "range 0..1 (by --range)" in from_onnx(path, ImportOptions(value_range="0..1")).note


def dropout_in_training() -> Net:
    return with_constants(Net(), "Dropout", value_float=0.5, value=numpy_helper.from_array(np.array(True)))


def test_what_depends_on_chance_or_on_a_batch_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=r"Dropout 'v4' is in training mode; call \.eval\(\)"):
        from_onnx(dropout_in_training().then("Tanh").saved(tmp_path))
    with pytest.raises(ImportRefused, match="an image depends on the others of its batch"):
        from_onnx(Net().then("Softmax", axis=0).then("Tanh").saved(tmp_path))


@pytest.mark.parametrize("domain", ["my.ops", "com.microsoft", "org.pytorch.aten"])
def test_operators_of_others_are_told_with_node_and_domain(domain: str, tmp_path: Path) -> None:
    path = Net().then("Swish2", domain=domain).then("Tanh").saved(tmp_path)
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid(domain, 1))
    onnx.save(model, path)
    with pytest.raises(ImportRefused, match=rf"cannot load the graph, which has Swish2 'v2' of the domain {domain}"):
        from_onnx(path)


def test_labels_of_another_rank_are_told(tmp_path: Path) -> None:
    label = helper.make_tensor_value_info("y", onnx.TensorProto.INT64, ["N", 2])
    with pytest.raises(ImportRefused, match=r"label: got y int64 \(N, 2\) and 2 names; allowed are integers \(N,\) or"):
        from_onnx(Net().then("Tanh").saved(tmp_path, inputs=[label]), ImportOptions(labels=("a", "b")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "a pointer of Git LFS: git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page or XML"),
        (b"PK\x03\x04 a checkpoint", "a zip file, as torch.save writes"),
        ((20).to_bytes(8, "little") + b'{"__metadata__": {}}', "has weights alone, as safetensors"),
        (b"some words\n" * 9, "is no ONNX file that can be read"),
    ],
)
def test_what_is_no_onnx_file_is_told_by_what_it_is(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    path.write_bytes(content)
    with pytest.raises(ImportRefused, match=message):
        from_onnx(path)
    with pytest.raises(ImportRefused, match="cannot be read: Is a directory"):
        from_onnx(tmp_path)


def test_layers_in_half_precision_draw_what_they_drew(tmp_path: Path) -> None:
    net = Net().then("Cast", to=onnx.TensorProto.FLOAT16)
    net.then("ConvTranspose", weights(3, 16, 4, 4, scale=0.1).astype(np.float16), strides=[2, 2], pads=[1] * 4)
    net.then("Relu").then("Conv", weights(3, 16, 1, 1, scale=0.3).astype(np.float16))
    assert_draws_as_it_came(net.then("Cast", to=onnx.TensorProto.FLOAT).then("Tanh").saved(tmp_path))


def test_a_bias_that_the_graph_computes_stays_where_it_is(tmp_path: Path) -> None:
    net = Net().then("ConvTranspose", weights(3, 16, 4, 4), None, strides=[2, 2], pads=[1] * 4)
    nothing = numpy_helper.from_array(np.zeros(16, np.float32), "nothing")
    net.weights.append(nothing)
    computed = [
        helper.make_node("ReduceMean", ["z"], ["mean"], axes=[0, 1], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["bias"]),
    ]
    net.nodes[0:0] = computed
    net.nodes[-1].input[2] = "bias"
    assert_draws_as_it_came(net.then("Conv", weights(3, 16, 1, 1, scale=0.1)).then("Tanh").saved(tmp_path))


def test_what_the_rewriting_stumbles_over_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(model: object) -> None:
        try:
            raise KeyError("no such shape")
        except KeyError as error:
            raise RuntimeError("An error occurred at step 0") from error

    monkeypatch.setattr(drawing, "optimise", stumble)
    with pytest.raises(
        ImportRefused, match=r"net\.onnx: onnx cannot work on it, KeyError: 'no such shape'; is the file dam"
    ):
        from_onnx(Net().then("Tanh").saved(tmp_path))


def test_damaged_files_are_told_in_a_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = Net().then("Conv", weights(3, 3, 1, 1)).then("Tanh").saved(tmp_path)
    whole = onnx.load(path)

    def refused(damaged: onnx.ModelProto) -> None:
        onnx.save(damaged, path)
        with pytest.raises(ImportRefused) as told:
            from_onnx(path)
        assert "\n" not in str(told.value)

    for field, value in {"raw_data": b"short", "data_type": 0}.items():
        damaged = onnx.ModelProto.FromString(whole.SerializeToString())
        setattr(damaged.graph.initializer[-1], field, value)
        refused(damaged)
    whole.graph.input[0].type.tensor_type.elem_type = 77
    refused(whole)
    path.write_bytes(onnx.load(path).SerializeToString().replace(b"v2", b"v\xff"))
    with pytest.raises(ImportRefused):
        from_onnx(path)
    assert "EP Error" not in "".join(capfd.readouterr())
