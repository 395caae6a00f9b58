"""What crosses the link between a gateway's process and the engines' process, and what both of its ends do.

    gateway:  submit() -> inputs into the pool -> SUBMIT ...            ... DONE -> outputs out of the pool -> finish()
    engines:  SUBMIT -> views of the pool -> Batcher.submit() -> outputs into the pool -> DONE

Records go over a socket, arrays through shared memory. A gateway greets with its number and is told all versions of all
models. When a side vanishes, the other one ends what it shared with it: the engines forget the requests of a dead
gateway, a gateway ends its requests as unavailable and connects again. Nothing is pickled; every record is a length, a
kind and a payload.
"""

import asyncio
import struct
from enum import IntEnum
from typing import cast

from server.models.graph import Graph
from server.models.layout import INPUTS
from server.models.registry import LoadedModel, ModelRegistry

_HEAD = struct.Struct("<IB")
HELLO = struct.Struct("<I")
VERSION = struct.Struct("<8s")  # variant; then a GetModelResponse
SUBMIT = struct.Struct("<IIIBQq")  # number, graph, rows, mask of inputs, offset, caller
CANCEL = struct.Struct("<I")
FAILED = struct.Struct("<I?")  # number, unavailable; then the problem
DONE = struct.Struct("<IddI")  # number, queue_s, compute_s, batch_size


class Kind(IntEnum):
    """What a record says."""

    HELLO = 1
    VERSION = 2
    READY = 3
    SUBMIT = 4
    CANCEL = 5
    DONE = 6
    FAILED = 7


class Connection(asyncio.Protocol):
    """One end of a link: cuts what comes into records, and sends what one round of the event loop has to say at once."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._incoming = bytearray()
        self._outgoing: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to send by."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit

    def data_received(self, data: bytes) -> None:
        """Act on every record that is complete."""
        incoming = self._incoming
        incoming += data
        start = 0
        while len(incoming) - start >= _HEAD.size:
            length, kind = _HEAD.unpack_from(incoming, start)
            end = start + _HEAD.size + length
            if len(incoming) < end:
                break
            self.receive(Kind(kind), bytes(incoming[start + _HEAD.size : end]))
            start = end
        del incoming[:start]

    def receive(self, kind: Kind, payload: bytes) -> None:
        """Act on one record."""
        raise NotImplementedError

    def send(self, kind: Kind, payload: bytes) -> None:
        """Send a record at the end of this round of the event loop."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(_HEAD.pack(len(payload), kind) + payload)

    def _flush(self) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()


def graphs_of(registry: ModelRegistry) -> list[tuple[Graph, LoadedModel]]:
    """All graphs in the order in which both ends count them."""
    loaded = [model for _, _, model in registry.versions() if model]
    return [(model.graphs[role], model) for model in loaded for role in sorted(model.graphs)]


def names_of(mask: int) -> tuple[str, ...]:
    """The inputs whose bits are set in the mask of a SUBMIT record."""
    return tuple(name for place, name in enumerate(INPUTS) if mask >> place & 1)
