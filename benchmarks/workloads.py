"""What is measured: graphs, and how many images a request asks for.

    GRAPHS x IMAGES -> workloads

Knows shapes only; `graphs` builds the files.
"""

from dataclasses import dataclass

FLIGHT = 32
"""Requests in flight in every closed loop."""

MIX = ((1, 0.60), (4, 0.25), (16, 0.15))
"""Images a request and how often, in the open loop."""


@dataclass(frozen=True)
class Graph:
    """noise (N, noise_dim) float32 -> images (N, height, width, channels) uint8."""

    name: str
    noise_dim: int
    height: int
    width: int
    channels: int
    nothing: str
    """Name of the graph of the same shapes that computes nothing."""

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

MEASURED = ("small28", "dcgan64")
IMAGES = (1, 16)


@dataclass(frozen=True)
class Workload:
    """One graph, asked for `images` images a request."""

    graph: Graph
    images: int

    @property
    def name(self) -> str:
        """Such as "small28 n=16"."""
        return f"{self.graph.name} n={self.images}"
