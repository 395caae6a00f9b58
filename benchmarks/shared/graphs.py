"""The graphs that are measured, with untrained weights of a fixed seed, as bundles.

    GRAPHS -> network -> generator.onnx -> golden images -> <folder>/<name>/<name>/1/

Figment reads the bundle, its peers the generator.onnx inside: one file for all. Each graph stands in a models folder of
its own, so that a server holds nothing else; `three/` holds small28 under three names. Run as
`python -m benchmarks.shared.graphs FOLDER`; what is there already stays.
"""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import torch
from torch import Tensor, nn

from benchmarks.shared.workloads import GRAPHS, Graph
from export import bundle
from export.golden import golden_inputs
from export.graphs import OPSET, Role, to_onnx, to_proto
from export.pixels import Pixels
from figment.bundles import FORMAT
from figment.v1.manifest_pb2 import Manifest
from training.architecture import Architecture
from training.networks import Generator

SEED = 1
GOLDEN_IMAGES = 16
WIDTH = 24
"""Channels of small28 at half its size: about 0.1 ms an image on one core of 2.4 GHz."""

NGF = 64
"""Channels of dcgan64 at half its size, as in the DCGAN paper: about 0.1 billion multiplications an image."""

THREE = ("small28-a", "small28-b", "small28-c")


class Dcgan(nn.Module):
    """The generator of DCGAN (Radford et al. 2016) for 64x64 RGB, its batch norms folded into weights and biases."""

    def __init__(self, noise_dim: int) -> None:
        super().__init__()
        widths = (noise_dim, 8 * NGF, 4 * NGF, 2 * NGF, NGF, 3)
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 4, 1 if level == 0 else 2, 0 if level == 0 else 1)
            for level, (before, after) in enumerate(pairwise(widths))
        )
        for weights in self.layers.parameters():
            nn.init.normal_(weights, std=0.05)

    def forward(self, noise: Tensor) -> Tensor:
        """noise: (N, Z) float32. Returns (N, 3, 64, 64) float32 in (-1, 1)."""
        x = noise[:, :, None, None]
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return torch.tanh(self.layers[-1](x))


def build(folder: Path) -> None:
    """Write every bundle that `folder` does not hold."""
    for graph in GRAPHS.values():
        write_bundle(graph, folder / graph.name, graph.name)
    for name in THREE:
        write_bundle(GRAPHS["small28"], folder / "three", name)


def write_bundle(graph: Graph, models: Path, name: str) -> None:
    """Write version 1 of `graph` under `name` into the folder `models`, unless it is there."""
    if (models / name / "1").exists():
        return
    manifest = Manifest(
        format=FORMAT,
        name=name,
        version="1",
        family="gan",
        height=graph.height,
        width=graph.width,
        channels=graph.channels,
        noise_dim=graph.noise_dim,
        latent_dim=graph.noise_dim,
    )
    with bundle.model_folder(models, name) as folder, bundle.new_version(folder) as (version, _):
        path = version / "generator.onnx"
        _write_graph(graph, path)
        manifest.graphs[path.name].CopyFrom(bundle.graph_entry(path, "generator", "fp32", OPSET))
        noise = golden_inputs(GOLDEN_IMAGES, graph.noise_dim, 0)["noise"]
        images = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"noise": noise})[0]
        np.savez(version / "golden.npz", noise=noise, images=images, tolerance=np.float32(1))
        bundle.write_manifest(manifest, version)
    bundle.write_triton_config(manifest, models / name)


def _write_graph(graph: Graph, path: Path) -> None:
    if graph.name == graph.nothing:
        onnx.save(_nothing(graph), path)
        return
    torch.manual_seed(SEED)
    if graph.name == "small28":
        shape = Architecture(graph.height, graph.channels, graph.noise_dim, WIDTH, labels=0)
        network: nn.Module = Generator(shape)
    else:
        network = Dcgan(graph.noise_dim)
    role = Role("generator", network.eval(), ("noise",), ("images",), Pixels())
    onnx.save(to_proto(to_onnx(role, {"noise": torch.zeros(2, graph.noise_dim)})), path)


def _nothing(graph: Graph) -> onnx.ModelProto:
    """A graph that answers N black images without computing anything."""
    shape = f"{graph.height}, {graph.width}, {graph.channels}"
    return onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : {OPSET}]>
        {graph.name} (float[N, {graph.noise_dim}] noise) => (uint8[N, {shape}] images) {{
            rows = Shape <start = 0, end = 1> (noise)
            image = Constant <value = int64[3] {{{shape}}}> ()
            size = Concat <axis = 0> (rows, image)
            images = ConstantOfShape <value = uint8[1] {{0}}> (size)
        }}
    """)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
