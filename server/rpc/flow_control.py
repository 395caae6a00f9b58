"""Flow control: how many bytes may be on their way at once.

    acquire(wanted, then) ... then(acquired) ... release(acquired)

Calls back instead of being awaited, because those who acquire are no tasks; belongs to one thread. Knows nothing of streams.
"""

from collections import deque
from collections.abc import Callable


class FlowControl:
    """A window of `size` bytes, first come, first served."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._waiting: deque[tuple[int, Callable[[int], None]]] = deque()

    def acquire(self, wanted: int, then: Callable[[int], None]) -> None:
        """Call `then` with the number of bytes acquired as soon as `wanted`, or the whole window, are free."""
        wanted = min(wanted, self._size)
        if self._waiting or self._free < wanted:
            self._waiting.append((wanted, then))
        else:
            self._free -= wanted
            then(wanted)

    def release(self, acquired: int) -> None:
        """Free what was acquired; those who wait have it next."""
        self._free += acquired
        while self._waiting and self._waiting[0][0] <= self._free:
            wanted, then = self._waiting.popleft()
            self._free -= wanted
            then(wanted)

    def forget(self, then: Callable[[int], None]) -> None:
        """Do not call `then` any more; whoever waits behind it may have its turn by that."""
        if self._waiting:
            self._waiting = deque(entry for entry in self._waiting if entry[1] != then)
            self.release(0)
