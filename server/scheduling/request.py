"""A request for rows of one graph, and the pieces in which it is run.

Plain records: the fair queue says which rows are taken, the batcher what has come of them.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

from server.arrays import Arrays
from server.errors import ServingError
from server.models.graph import Graph


@dataclass(eq=False, slots=True)
class Request:
    """Rows on their way through the queue: [0, taken) are in a run or done, the rest waits.

    finish      called once in the event loop, with the outputs or the error
    caller      requests of one caller take turns with those of others
    """

    graph: Graph
    inputs: Arrays
    count: int
    caller: Hashable
    finish: Callable[[Arrays | ServingError], None]
    queued_s: float
    taken: int = 0
    done: int = 0
    is_ended: bool = False
    parts: list[tuple[int, Arrays]] = field(default_factory=list)
    queue_s: float = 0.0
    compute_s: float = 0.0
    batch_size: int = 0


class Piece(NamedTuple):
    """Rows start to stop of a request, in one batch."""

    request: Request
    start: int
    stop: int
