"""Memory that a gateway's process and the engines' process both see, and who may write where in it.

    alloc(size) -> offset -> array(offset, ...) on both sides -> free(offset, size)

The gateway owns the map of what is taken; the other side touches only what it was told. Pages that were never taken cost
nothing, and those that are taken for the first time are there before anybody touches them.
"""

import mmap
import os
import tempfile
from bisect import insort
from math import prod

import numpy as np
import numpy.typing as npt

from server.allocation import allocate
from server.arrays import Array
from server.errors import CannotStart

POOL_BYTES = 1 << 30
"""Address space for the images of one gateway in flight; no memory until it is used."""

STEP_BYTES = 1 << 20
"""Memory that the pool grows by."""

_ALIGNMENT = 64


class OutOfSharedMemory(Exception):
    """The machine has no memory for more of the pool."""


def make_shared_memory(size: int = POOL_BYTES) -> int:
    """A file descriptor of `size` bytes of memory, to be handed down to child processes.

    Raises: CannotStart, if there is not even room for its first step.
    """
    descriptor = None
    try:
        if hasattr(os, "memfd_create"):
            # Not a file in /dev/shm: containers limit that to 64 MiB by default.
            descriptor = os.memfd_create("figment-shared")
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.truncate(descriptor, size)
        allocate(descriptor, 0, min(STEP_BYTES, size))
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        raise CannotStart(
            f"engines: shared: no memory to share between processes: {error.strerror}; got none of {STEP_BYTES} bytes: "
            "free some, or let each gateway have engines of its own (--engines own)"
        ) from None
    os.set_inheritable(descriptor, True)
    return descriptor


class SharedMemoryPool:
    """One end of the memory behind a file descriptor, which is to stay open."""

    def __init__(self, descriptor: int) -> None:
        self.size = os.fstat(descriptor).st_size
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, self.size)
        self._free = [(0, self.size)]
        self._there = 0
        """Bytes from the start on that the machine has given."""

    def alloc(self, size: int) -> int | None:
        """The offset of `size` bytes that are nobody else's, the lowest that there is; None if there is none now.

        Raises: OutOfSharedMemory, if the machine has no memory for them.
        """
        size = _aligned(size)
        for place, (offset, room) in enumerate(self._free):
            if room >= size:
                self._grow(offset + size)
                if room == size:
                    del self._free[place]
                else:
                    self._free[place] = (offset + size, room - size)
                return offset
        return None

    def free(self, offset: int, size: int) -> None:
        """Give back what `alloc` returned for `size`."""
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

    def _grow(self, end: int) -> None:
        """Have memory up to `end`: nobody has had any beyond what is there, so nothing is overwritten."""
        while self._there < end:
            step_end = min(self._there + STEP_BYTES, self.size)
            try:
                allocate(self._descriptor, self._there, step_end)
            except OSError as error:
                raise OutOfSharedMemory(
                    f"shared memory cannot grow beyond {self._there} bytes: {error.strerror}"
                ) from None
            self._there = step_end


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
