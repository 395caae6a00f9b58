"""`figment import`: generators that were trained elsewhere become bundles, or are refused with what is wrong."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

from export.errors import ExportError, ImportRefused
from export.golden import golden_inputs
from export.onnx_import.generator import from_onnx
from export.onnx_import.options import ImportOptions
from export.publish import publish
from export.sessions import run, session

NOISE_DIM = 24


class Dcgan(nn.Module):
    """A DCGAN generator (Radford et al. 2016) of 16x16 images: transposed convolutions, batch norms, a tanh."""

    def __init__(self, channels: int = 3, labels: int = 0) -> None:
        super().__init__()
        self.embed = nn.Embedding(labels, NOISE_DIM) if labels else None
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(NOISE_DIM, 32, 4, 1, 0, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, channels, 4, 2, 1),
            nn.Tanh(),
        )
        for _ in range(3):  # so that the batch norms have something to fold
            self.layers(torch.randn(16, NOISE_DIM, 1, 1) + 0.2)
        self.eval()

    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            noise = noise * self.embed(label)[:, :, None, None]
        return self.layers(noise)


class Wrapped(nn.Module):
    """The same generator in other people's conventions."""

    def __init__(self, net: Dcgan, range_: str, layout: str, is_flat: bool) -> None:
        super().__init__()
        self.net, self.range, self.layout, self.is_flat = net, range_, layout, is_flat

    def forward(self, noise: Tensor) -> Tensor:
        pixels = self.net(noise[:, :, None, None] if self.is_flat else noise)
        if self.range == "0..1":
            pixels = pixels / 2 + 0.5
        if self.range in {"0..255", "uint8"}:
            pixels = pixels * 127.5 + 127.5
        if self.range == "uint8":
            pixels = pixels.round().to(torch.uint8)
        return pixels.permute(0, 2, 3, 1) if self.layout == "NHWC" else pixels


@pytest.fixture(scope="module")
def net() -> Dcgan:
    torch.manual_seed(0)
    return Dcgan()


def bytes_of(net: Dcgan, noise: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        pixels = net(torch.from_numpy(noise)[:, :, None, None]).permute(0, 2, 3, 1).numpy()
    return np.rint(pixels * 127.5 + 127.5).astype(np.uint8)


def saved(module: nn.Module, example: Tensor, path: Path, **options: object) -> Path:
    """As people export it, with a fixed batch unless told otherwise."""
    torch.onnx.export(module.eval(), (example,), path, dynamo=False, opset_version=17, **options)
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("range_", "layout", "is_flat"),
    [("-1..1", "NCHW", False), ("0..1", "NHWC", True), ("0..255", "NCHW", True), ("uint8", "NHWC", False)],
)
def test_a_dcgan_in_any_convention_draws_what_torch_draws(
    net: Dcgan, range_: str, layout: str, is_flat: bool, tmp_path: Path
):
    example = torch.zeros(1, NOISE_DIM) if is_flat else torch.zeros(1, NOISE_DIM, 1, 1)
    path = saved(Wrapped(net, range_, layout, is_flat), example, tmp_path / "G.onnx")
    published = publish(from_onnx(path), tmp_path / "models", "g")
    manifest = published.manifest
    assert (manifest.family, manifest.height, manifest.width, manifest.channels) == ("imported", 16, 16, 3)
    assert (manifest.noise_dim, manifest.latent_dim) == (NOISE_DIM, NOISE_DIM)
    given = golden_inputs(5, NOISE_DIM, 0, seed=1)
    got = run(session(onnx.load(published.folder / "generator.onnx")), given)["images"]
    assert got.shape == (5, 16, 16, 3)
    assert np.abs(got.astype(int) - bytes_of(net, given["noise"])).max() <= 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_conditional_generator_has_its_labels_by_name(tmp_path: Path):
    torch.manual_seed(0)
    conditional = Dcgan(1, labels=3)
    path = tmp_path / "G.onnx"
    example = torch.zeros(2, NOISE_DIM, 1, 1), torch.zeros(2, dtype=torch.int64)
    torch.onnx.export(conditional, example, path, dynamo=False, opset_version=17)
    source = from_onnx(path, ImportOptions(labels=("a", "b", "c")))
    published = publish(source, tmp_path / "models", "g")
    assert list(published.manifest.labels) == ["a", "b", "c"]
    assert [value.name for value in source.graphs["generator"].graph.input] == ["noise", "label"]
    with pytest.raises(ImportRefused, match=r"labels: got 0, but the graph has an input for a label"):
        from_onnx(path)
    with pytest.raises(ImportRefused, match=r"does not run on 16 rows of noise: .*out of"):
        from_onnx(path, ImportOptions(labels=tuple("abcdefgh")))


def graph(
    inputs: list[onnx.ValueInfoProto], output: onnx.ValueInfoProto, operator: str, path: Path, **attributes: object
) -> Path:
    node = helper.make_node(operator, [inputs[0].name], [output.name], **attributes)
    body = helper.make_graph([node], "g", inputs, [output])
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def tensor(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


FLOAT, INT64, INT32 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.INT32


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        ([tensor("z", FLOAT, "N", "Z")], tensor("y", FLOAT, "N", "Z"), r"noise: got z float \(N, Z\); allowed are"),
        ([tensor("z", FLOAT, "N", 8, 2)], tensor("y", FLOAT, "N", 8, 2), r"noise: got z float \(N, 8, 2\)"),
        ([tensor("z", INT32, "N", 8)], tensor("y", INT32, "N", 8), r"inputs: got z int32 \(N, 8\); allowed are noise"),
        (
            [tensor("z", FLOAT, "N", 8), tensor("w", FLOAT, "N", 8)],
            tensor("y", FLOAT, "N", 8),
            r"inputs: got z float \(N, 8\); w float \(N, 8\)",
        ),
        (
            [tensor("z", FLOAT, "N", 8)],
            tensor("y", FLOAT, "N", 8),
            r"y: got \(256, 8\); allowed are 4 axes, .*--shape tells",
        ),
        ([tensor("z", FLOAT, "N", 3, 1, 1)], tensor("y", FLOAT, "N", 3, 1, 1), r"--layout auto; images have 1 or 3"),
    ],
)
def test_what_is_no_generator_is_refused_with_what_came(
    inputs: list[onnx.ValueInfoProto], output: onnx.ValueInfoProto, message: str, tmp_path: Path
):
    with pytest.raises(ImportRefused, match=message):
        from_onnx(graph(inputs, output, "Identity", tmp_path / "g.onnx"))


def test_a_range_that_cannot_be_told_is_asked_for(tmp_path: Path):
    value = [tensor("z", FLOAT, "N", 3, 1, 1)], tensor("y", FLOAT, "N", 3, 1, 1)
    path = graph(*value, "Identity", tmp_path / "g.onnx")
    with pytest.raises(ImportRefused, match=r"got values from -\d.* to \d.*; --range tells"):
        from_onnx(path, ImportOptions(layout="NCHW"))
    assert from_onnx(path, ImportOptions(layout="NCHW", value_range="-1..1")).facts.channels == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"not a model at all", "is no ONNX file that can be read"),
        (b"PK\x03\x04 torch.save", "is no ONNX file, but a zip file, as torch.save writes"),
        (b'\x10\0\0\0\0\0\0\0{"w": 1}', "has weights alone, as safetensors"),
        (bytes(1000), "is no ONNX file that can be read"),
    ],
)
def test_a_file_that_is_no_onnx_is_refused_with_what_it_is(content: bytes, message: str, tmp_path: Path):
    path = tmp_path / "g.onnx"
    path.write_bytes(content)
    with pytest.raises(ImportRefused, match=message):
        from_onnx(path)


def test_a_path_that_is_no_file_is_refused(tmp_path: Path):
    for path in (tmp_path / "gone.onnx", tmp_path):
        with pytest.raises(ImportRefused, match="cannot be read: "):
            from_onnx(path)


def test_quality_wants_real_images(tmp_path: Path):
    value = [tensor("z", FLOAT, "N", 3, 1, 1)], tensor("y", FLOAT, "N", 3, 1, 1)
    source = from_onnx(graph(*value, "Tanh", tmp_path / "g.onnx"), ImportOptions(layout="NCHW"))
    with pytest.raises(ExportError, match="--data tells where they are"):
        source.data()
