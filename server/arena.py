"""Memory that a gateway's process and the engines' process both see, and who may write where in it.

    take(size) -> offset -> array(offset, ...) on both sides -> give(offset, size)

The gateway owns the map of what is taken; the other side touches only what it was told. Pages that were never taken cost
nothing.
"""

import mmap
import os
import tempfile
from bisect import insort
from math import prod

import numpy as np
import numpy.typing as npt

from server.turns import Array

ARENA_BYTES = 1 << 30
"""Address space for the images of one gateway in flight; no memory until it is used."""

_ALIGNMENT = 64


def make_shared_file() -> int:
    """A file descriptor of ARENA_BYTES of memory, to be handed down to child processes."""
    if hasattr(os, "memfd_create"):
        # Not a file in /dev/shm: containers limit that to 64 MiB by default, and answer more with SIGBUS.
        descriptor = os.memfd_create("figment-arena")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, ARENA_BYTES)
    os.set_inheritable(descriptor, True)
    return descriptor


class Arena:
    """One end of the memory behind a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, ARENA_BYTES)
        self._free = [(0, ARENA_BYTES)]

    def take(self, size: int) -> int | None:
        """The offset of `size` bytes that are nobody else's, the lowest that there is; None if there is none now."""
        size = _aligned(size)
        for place, (offset, room) in enumerate(self._free):
            if room >= size:
                if room == size:
                    del self._free[place]
                else:
                    self._free[place] = (offset + size, room - size)
                return offset
        return None

    def give(self, offset: int, size: int) -> None:
        """Give back what `take` returned for `size`."""
        insort(self._free, (offset, _aligned(size)))
        merged = [self._free[0]]
        for start, room in self._free[1:]:
            before, length = merged[-1]
            if before + length == start:
                merged[-1] = (before, length + room)
            else:
                merged.append((start, room))
        self._free = merged

    def array(self, offset: int, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> Array:
        """The bytes from `offset` on as an array."""
        return np.frombuffer(self._memory, dtype, prod(shape), offset).reshape(shape)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
