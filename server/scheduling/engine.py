"""What the batcher needs of an engine."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from server.arrays import Arrays
from server.models.graph import Graph
from server.scheduling.batch_cost import BatchCost


class LoadedGraph(NamedTuple):
    """One graph on one engine.

    run    runs the rows of all pieces, in order, on any thread: outputs with as many rows, and the rows of padding
    cost   what runs of it cost
    """

    run: Callable[[Sequence[Arrays]], tuple[Arrays, int]]
    cost: BatchCost


class Engine(Protocol):
    """A device and the graphs that are loaded on it."""

    @property
    def device(self) -> str:
        """Name of the device."""

    @property
    def graphs(self) -> Mapping[Graph, LoadedGraph]:
        """All graphs that may be submitted."""
