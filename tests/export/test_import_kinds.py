"""Files of other makers and times: what is published draws what the file as it came draws, or is refused in words."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from export.errors import ImportRefused
from export.onnx_import import conversion, drawing
from export.onnx_import.generator import from_onnx
from export.onnx_import.options import ImportOptions
from export.publish import publish
from tests.fakes.nets import Net, assert_draws_as_it_came, weights

DOUBLE = np.array([1, 1, 2, 2], np.float32)
HALF = np.array([1, 1, 0.5, 0.5], np.float32)
OLD = {
    "bilinear Upsample of opset 9": lambda: Net(9).then("Upsample", DOUBLE, mode="linear"),
    "nearest Upsample of opset 9": lambda: Net(9).then("Upsample", DOUBLE, mode="nearest"),
    "bilinear Upsample of opset 7": lambda: Net(7).then("Upsample", mode="linear", scales=DOUBLE.tolist()),
    "bilinear Resize of opset 10": lambda: Net(10).then("Resize", DOUBLE, mode="linear"),
    "nearest Resize of opset 10": lambda: Net(10).then("Resize", DOUBLE * np.float32([1, 1, 1.5, 1.5]), mode="nearest"),
    "bilinear Resize of opset 10 to a half": lambda: Net(10).then("Resize", HALF, mode="linear"),
    "half-pixel Resize of opset 11": lambda: Net(11).then("Resize", np.zeros(0, np.float32), DOUBLE, mode="linear"),
    "aligned Resize of opset 13": lambda: Net(13).then(
        "Resize", None, DOUBLE, mode="linear", coordinate_transformation_mode="align_corners"
    ),
    "cubic Resize of opset 17": lambda: Net(17).then("Resize", None, DOUBLE, mode="cubic"),
    "Softmax of opset 11, over all axes from one": lambda: Net(11).then("Softmax", axis=1).then("Mul", np.float32(40)),
    "Dropout of opset 9": lambda: Net(9).then("Dropout", ratio=0.5),
    "Dropout of opset 12": lambda: Net(12).then("Dropout", np.float32(0.5)),
    "BatchNormalization of opset 9": lambda: Net(9).then(
        "BatchNormalization", weights(3), weights(3), weights(3), np.abs(weights(3)) + 1
    ),
    "Pad of opset 9": lambda: Net(9).then("Pad", pads=[0, 0, 4, 4, 0, 0, 4, 4], mode="reflect"),
    "Clip of opset 9": lambda: Net(9).then("Clip", min=-0.7, max=0.6),
    "PRelu of opset 9": lambda: Net(9).then("PRelu", weights(3, 1, 1)),
    "InstanceNormalization of opset 9": lambda: Net(9).then("InstanceNormalization", weights(3), weights(3)),
    "ConvTranspose of opset 9": lambda: Net(9).then("ConvTranspose", weights(3, 3, 4, 4), strides=[2, 2], pads=[1] * 4),
    "AveragePool of opset 10": lambda: Net(10).then("AveragePool", kernel_shape=[3, 3], pads=[1] * 4),
    "DepthToSpace of opset 11": lambda: (
        Net(11).then("Conv", weights(12, 3, 1, 1)).then("DepthToSpace", blocksize=2, mode="CRD")
    ),
    "GroupNormalization of opset 18": lambda: (
        Net(18)
        .then("Conv", weights(6, 3, 1, 1))
        .then("GroupNormalization", weights(2, offset=1), weights(2), num_groups=2)
        .then("Conv", weights(3, 6, 1, 1))
    ),
    "GroupNormalization of opset 21": lambda: (
        Net(21)
        .then("Conv", weights(6, 3, 1, 1))
        .then("GroupNormalization", weights(6, offset=1), weights(6), num_groups=2)
        .then("Conv", weights(3, 6, 1, 1))
    ),
    "a batch of 1 baked into Reshape": lambda: Net(17, rows=1),
}


@pytest.mark.parametrize("name", OLD)
def test_what_is_published_draws_what_the_file_as_it_came_draws(name: str, tmp_path: Path) -> None:
    assert_draws_as_it_came(OLD[name]().then("Tanh").saved(tmp_path))


def test_a_conversion_that_draws_other_images_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "_keep_places", lambda model: None)
    path = Net(9).then("Upsample", DOUBLE, mode="linear").then("Tanh").saved(tmp_path)
    with pytest.raises(ImportRefused, match=r"converted to opset 20 .* off by .* grey levels; export it with opset 20"):
        from_onnx(path)


def test_weights_may_be_listed_among_the_inputs(tmp_path: Path) -> None:
    for ir_version in (3, 4, 8):
        net = Net(9).then("Tanh")
        listed = [helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in net.weights]
        path = net.saved(tmp_path, inputs=listed)
        model = onnx.load(path)
        model.ir_version = ir_version
        onnx.save(model, path)
        assert_draws_as_it_came(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Net(17).then(
                "BatchNormalization", weights(3), weights(3), weights(3), np.abs(weights(3)), training_mode=1
            ),
            r"BatchNormalization 'v2' is in training mode.*\.eval\(\)",
        ),
        (lambda: Net(17).then("Dropout", np.float32(0.5), np.array(True)), "Dropout 'v2' is in training mode"),
        (lambda: Net(17).then("RandomNormalLike"), r"RandomNormalLike 'v2' draws noise of its own.*noise_mode='const'"),
        (lambda: Net(17).then("Bernoulli"), "Bernoulli 'v2' draws noise of its own"),
        (
            lambda: Net(17).then("Swish2", domain="my.ops"),
            r"cannot load the graph, which has Swish2 'v2' of the domain my\.ops",
        ),
        (
            lambda: Net(17).then("ReduceMean", axes=[0]),
            "gives 1 images for 16 rows, and draws one image of a row alone: it mixes the rows of a batch",
        ),
        (lambda: Net(17).then("Log"), r"of 49152 values drawn are infinite or no numbers.*export it in float32"),
        (lambda: Net(99), "opset 99 is newer than this onnx"),
    ],
)
def test_what_no_generator_may_do_is_told_with_the_node(make: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=message):
        from_onnx(make().saved(tmp_path))


def test_a_newer_ir_version_is_told(tmp_path: Path) -> None:
    path = Net(17).saved(tmp_path)
    model = onnx.load(path)
    model.ir_version = 99
    onnx.save(model, path)
    with pytest.raises(ImportRefused, match="IR version 99 is newer than this onnx"):
        from_onnx(path)


def test_external_weights_that_are_missing_are_told(tmp_path: Path) -> None:
    path = Net(17).then("Tanh").saved(tmp_path)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=100)
    assert_draws_as_it_came(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ImportRefused, match=r"weights\.bin"):
        from_onnx(path)


def bright(net: Net) -> Net:
    """Values of 0.9 and more before the end."""
    return net.then("Abs").then("Add", np.float32(1.5))


@pytest.mark.parametrize(
    ("make", "range_", "why"),
    [
        (lambda: bright(Net()).then("Tanh"), "-1..1", "by Tanh 'v4' at its end"),
        (lambda: bright(Net()).then("Tanh").then("Identity"), "-1..1", "by Tanh 'v4' at its end"),
        (lambda: bright(Net()).then("Sigmoid"), "0..1", "by Sigmoid 'v4' at its end"),
        (
            lambda: bright(Net()).then("Tanh").then("Mul", np.float32(0.5)).then("Add", np.float32(0.5)),
            "0..1",
            "by Tanh",
        ),
        (lambda: bright(Net()).then("Tanh").then("Add", np.float32(1)).then("Div", np.float32(2)), "0..1", "by Tanh"),
        (lambda: bright(Net()).then("Sigmoid").then("Mul", np.float32(255)), "0..255", "by Sigmoid"),
        (lambda: bright(Net()).then("Clip", np.float32(-1), np.float32(1)), "-1..1", "by Clip"),
        (lambda: Net().then("Mul", np.float32(0.1)), "-1..1", "by values from "),
        (lambda: Net().then("Abs").then("Mul", np.float32(30)), "0..255", "by values from "),
    ],
)
def test_the_range_is_told_by_the_graphs_end_before_its_values(
    make: Any, range_: str, why: str, tmp_path: Path
) -> None:
    found = from_onnx(make().saved(tmp_path)).note
    assert "NCHW (3 channels in axis 1)" in found
    assert f"range {range_} ({why}" in found


@pytest.mark.parametrize(
    "make",
    [
        lambda: Net().then("Abs").then("Mul", np.float32(0.1)).then("Add", np.float32(0.3)),
        lambda: bright(Net()),
        lambda: Net().then("Mul", np.float32(1000)),
    ],
)
def test_a_range_that_nothing_tells_is_asked_for(make: Any, tmp_path: Path) -> None:
    path = make().saved(tmp_path)
    with pytest.raises(ImportRefused, match=r"got values from .* on 256 rows of noise.*--range tells what"):
        from_onnx(path)
    assert "(by --range)" in from_onnx(path, ImportOptions(value_range="-1..1")).note


def test_values_outside_a_range_that_was_asked_for_are_told(tmp_path: Path) -> None:
    assert (
        "% of the values drawn lie outside" in from_onnx(Net().saved(tmp_path), ImportOptions(value_range="0..1")).note
    )


def test_rows_are_run_as_there_is_memory_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from export import sessions

    monkeypatch.setattr(sessions, "_affordable_rows", lambda graph: 3)
    monkeypatch.setattr(drawing, "SAMPLE_IMAGES", 16)
    ran: list[int] = []

    class Watched(sessions.Session):
        def run(self, names: list[str], inputs: dict[str, np.ndarray], *options: object) -> list[np.ndarray]:
            ran.append(len(next(iter(inputs.values()))))
            return super().run(names, inputs, *options)

    monkeypatch.setattr(sessions, "Session", Watched)
    published = publish(from_onnx(Net().then("Tanh").saved(tmp_path)), tmp_path / "models", "net")
    assert max(ran) == 3
    assert list(published.manifest.parity["generator.onnx"].batch_sizes) == [1, 2, 3]
    assert len(np.load(published.folder / "golden.npz")["images"]) == 16
