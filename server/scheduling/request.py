"""A request for rows of one graph, and the pieces in which it is run.

Plain records: the fair queue says which rows are taken, the batcher what has come of them.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from server.arrays import Arrays
from server.errors import ServingError
from server.models.graph import Graph


@dataclass(eq=False, slots=True)
class Request:
    """Rows on their way through the queue: [0, taken) are in a run or done, the rest waits.

    caller       requests of one caller share its part of each batch
    finish       called once in the event loop, with the request and its `outputs` or its `error`; never, if it was cancelled
    queue_s      seconds until its first run
    compute_s    seconds of all its runs
    batch_size   rows in its first run, those of others included
    """

    graph: Graph
    inputs: Arrays
    count: int
    caller: Hashable
    finish: Callable[["Request"], None]
    queued_s: float
    taken: int = 0
    done: int = 0
    is_ended: bool = False
    parts: list[tuple[int, Arrays]] = field(default_factory=list)
    outputs: Arrays = field(default_factory=dict)
    error: ServingError | None = None
    queue_s: float = 0.0
    compute_s: float = 0.0
    batch_size: int = 0


class Piece(NamedTuple):
    """Rows start to stop of a request, in one batch."""

    request: Request
    start: int
    stop: int


class Queue(Protocol):
    """Where admitted rows go: the batcher of this process, or of the one that has the engines."""

    def submit(self, graph: Graph, inputs: Arrays, caller: Hashable, finish: Callable[[Request], None]) -> Request:
        """Queue N rows of inputs; `finish` is called once in a later round of the event loop.

        Errors: EngineFailed, Rejected, Unavailable.
        """

    def cancel(self, request: Request) -> None:
        """Give a request up: it is never finished, and what waits of it never runs."""
