"""What is measured: the graphs' shapes, and where their files and everything that belongs to a benchmark lie.

    GRAPHS -> bundles(folder), made by `graphs` -> onnx_file()

Knows shapes and paths only, and imports no torch.
"""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.shared.processes import run
from figment.v1.manifest_pb2 import Manifest

HOME = Path(__file__).parents[1] / ".bench"
"""Environments, bundles, logs and results; git ignores it."""

BUNDLES, LOGS, RESULTS = HOME / "bundles", HOME / "logs", HOME / "results"


@dataclass(frozen=True)
class Graph:
    """noise (N, noise_dim) float32 -> images (N, height, width, channels) uint8; nothing: of these shapes, black images."""

    name: str
    noise_dim: int
    height: int
    width: int
    channels: int
    nothing: str

    @property
    def image_bytes(self) -> int:
        """Raw bytes of one image."""
        return self.height * self.width * self.channels


GRAPHS = {
    graph.name: graph
    for graph in (
        Graph("small28", noise_dim=16, height=28, width=28, channels=1, nothing="nothing28"),
        Graph("dcgan64", noise_dim=100, height=64, width=64, channels=3, nothing="nothing64"),
        Graph("nothing28", noise_dim=16, height=28, width=28, channels=1, nothing="nothing28"),
        Graph("nothing64", noise_dim=100, height=64, width=64, channels=3, nothing="nothing64"),
    )
}


def prepare(out: Path, bundles: Path | None = None) -> None:
    """Make the folders, and in `bundles` the graphs that are missing; SIGTERM is Ctrl-C from now on. Raises: Failed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that whatever ends this ends the servers too
    HOME.mkdir(exist_ok=True)
    (HOME / ".gitignore").write_text("*\n")
    out.mkdir(parents=True, exist_ok=True)
    if bundles:
        run([sys.executable, "-m", "benchmarks.shared.graphs", str(bundles)])


def onnx_file(bundles: Path, graph: Graph) -> Path:
    """The graph's ONNX file in the folder that `graphs` wrote."""
    return bundles / graph.name / graph.name / "1" / "generator.onnx"


def variants(manifest: Manifest) -> dict[str, str]:
    """The generator's files in a bundle by variant, fp32 first."""
    found = {graph.variant: file for file, graph in manifest.graphs.items() if graph.role == "generator"}
    return dict(sorted(found.items(), key=lambda pair: (pair[0] != "fp32", pair)))
