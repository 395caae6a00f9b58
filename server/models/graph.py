"""The name of a graph, by which whoever has none of its weights asks for a run of it."""

from typing import NamedTuple


class Graph(NamedTuple):
    """One graph that an engine can run; `engine` is the fingerprint of its version, so that no other is ever run for it."""

    model: str
    version: str
    role: str
    engine: str = ""
