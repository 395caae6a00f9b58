"""The process's memory: what the C library keeps of it for later is given back to the system after large messages.

gRPC frees what it read, but in pieces all over the heap: after 800 MiB of uploads 320 MiB stayed resident, for good.
"""

import asyncio
import ctypes
from collections.abc import Callable

MUCH_BYTES = 64 * 1024 * 1024
"""Bytes of messages after which it is worth to look, which takes some milliseconds."""

SETTLE_S = 1.0
"""Seconds in which what was received is used and freed."""


def trim() -> None:
    """Give free memory back, where the C library can: glibc."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


class Heap:
    """Trims the heap some time after it was asked to; belongs to the event loop."""

    def __init__(self, is_in_use: Callable[[], bool], trim: Callable[[], None] = trim) -> None:
        self._is_in_use = is_in_use
        self._trim = trim
        self._timer: asyncio.TimerHandle | None = None

    def trim_later(self) -> None:
        """Trim once what was received is not in use any more."""
        if not self._timer:
            self._timer = asyncio.get_running_loop().call_later(SETTLE_S, self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if self._is_in_use():
            self._timer = loop.call_later(SETTLE_S, self._look)
            return
        self._timer = None
        loop.run_in_executor(None, self._trim)
