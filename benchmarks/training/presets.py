"""What each preset costs: parameters, operations, and images a second that one core serves.

    python -m benchmarks.training.presets

Networks as they are before training: their speed does not depend on the weights.
"""

import tempfile
from pathlib import Path
from typing import get_args

import onnx
import torch

from benchmarks.shared.report import row, table
from export.graphs import roles, to_onnx, to_proto
from export.measure import machine, measure
from export.optimise import optimise
from training.architecture import PRESETS, Architecture
from training.cost import networks
from training.model import Model, ModelFacts
from training.networks import Discriminator
from training.settings import Preset

SHAPES = ((28, 1), (64, 3), (128, 3))
LATENT_DIM = 16

SERVED_PIXELS = 64
"""Larger generators are not run: `large` ones would take long."""


def main() -> None:
    """Print the table."""
    print(machine())
    columns = ("preset", "images", "parameters G, E, D (millions)", "MFLOP G, E, D", "images/s a core")
    print(*table(columns, []), sep="\n")
    for size, channels in SHAPES:
        for preset in get_args(Preset):
            print(_row(preset, size, channels), flush=True)


def _row(preset: Preset, size: int, channels: int) -> str:
    torch.manual_seed(0)
    width, blocks = PRESETS[preset]
    architecture = Architecture(size, channels, LATENT_DIM, width, 0, blocks)
    model = Model(ModelFacts("vae", architecture, [], 0)).eval()
    found = networks(model, Discriminator(architecture))
    parts = [found[name] for name in ("generator", "encoder", "discriminator")]
    parameters = ", ".join(f"{each.parameters / 1e6:.2f}" for each in parts)
    mflop = ", ".join(f"{each.mflop:.1f}" for each in parts)
    rate = f"{_served(model):,.0f}" if size <= SERVED_PIXELS else ""
    return row(preset, f"{size}x{size}x{channels}", parameters, mflop, rate)


def _served(model: Model) -> float:
    """Images a second of CPU time, at the best of several batch sizes: one thread, fp32."""
    (generator,) = (role for role in roles(model) if role.name == "generator")
    graph = to_onnx(generator, {"noise": torch.zeros(2, model.noise_dim)})
    optimise(graph)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "generator.onnx"
        onnx.save(to_proto(graph), file)
        found = measure([file], "cpu", labels=0)
    return max(1 / each.cpu_s_per_image for each in found if each.threads == 1)


if __name__ == "__main__":
    main()
