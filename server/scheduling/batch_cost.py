"""What a run of each size costs, measured once, and how many rows to run by it.

    measure() -> BatchCost -> choose_batch_size(waiting, idle)

A larger batch is only better while it lowers the cost of a row: past that it makes everybody wait for nothing.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache

OVERHEAD_S = 0.001
"""What a run costs beside the engine: forming the batch, handing the interpreter over, waking the event loop. It is some
0.4 ms; the rest keeps measurements that other work on the machine disturbed from making batches too small."""

ROUNDS = 5
"""How often each size is timed at most: other work on the machine makes a run slower, never faster."""

NEARLY_BEST = 0.99
"""Part of the best rate of rows that is as good as the best, if it takes a smaller batch."""

GOOD_ENOUGH = 0.8
"""The same where there is something to gain from a smaller batch."""


class BatchCost:
    """Seconds of a run by its number of rows.

    sizes      sizes measured, ascending; the last is the largest batch
    is_padded  whether only these sizes are run, so that a batch costs what the next size does
    """

    def __init__(self, sizes: Sequence[int], seconds: Sequence[float], *, is_padded: bool) -> None:
        self._is_padded = is_padded
        self._sizes = list(sizes)
        self._seconds = list(seconds)
        # Asked for each batch; few numbers of rows wait again and again.
        self.choose_batch_size = lru_cache(maxsize=4096)(self._choose_batch_size)
        self.preferred_batch = min(self._sizes_of_rate(self._sizes[-1], GOOD_ENOUGH))
        """Rows that are worth a run even if more are about to come, or other workers have nothing to do."""

    def seconds(self, rows: int) -> float:
        """What a run of `rows` rows, at most the largest batch, takes; between measured sizes in proportion."""
        place = bisect_left(self._sizes, rows)
        if self._is_padded or self._sizes[place] == rows:
            return self._seconds[place]
        low, high = self._sizes[place - 1], self._sizes[place]
        part = (rows - low) / (high - low)
        return (1 - part) * self._seconds[place - 1] + part * self._seconds[place]

    def _choose_batch_size(self, waiting: int, idle: int) -> int:
        """Rows to run now of `waiting`, so that few wait long and no work is wasted; padding counts as work.

        While `idle` other workers could help, they get equal parts of what is worth to be divided.
        """
        if idle:
            part = max(-(-waiting // (idle + 1)), self.preferred_batch)
            return max(self._sizes_of_rate(min(waiting, part), NEARLY_BEST))
        return min(self._sizes_of_rate(waiting, NEARLY_BEST))

    def _sizes_of_rate(self, waiting: int, part_of_best: float) -> list[int]:
        """Numbers of rows, at most `waiting`, that have this part of the best rate."""
        waiting = min(waiting, self._sizes[-1])
        sizes = [*(size for size in self._sizes if size < waiting), waiting]
        rates = {rows: rows / (self.seconds(rows) + OVERHEAD_S) for rows in sizes}
        best = max(rates.values())
        return [rows for rows, rate in rates.items() if rate >= part_of_best * best]


def measure(run: Callable[[int], object], sizes: Sequence[int], *, is_padded: bool, budget_s: float) -> BatchCost:
    """Time `run(size)` for each of `sizes`, ascending, in rounds until `budget_s` seconds are over; the quickest counts.

    Sizes that even the first round has no time for are taken to cost what the largest measured one does, row by row.
    """
    until_s = time.monotonic() + budget_s
    seconds: list[float] = []
    for size in sizes:
        is_late = seconds and time.monotonic() > until_s
        seconds.append(seconds[-1] / sizes[len(seconds) - 1] * size if is_late else _timed(run, size))
    for _ in range(ROUNDS - 1):
        for place, size in enumerate(sizes):
            if time.monotonic() + seconds[place] < until_s:
                seconds[place] = min(seconds[place], _timed(run, size))
    return BatchCost(sizes, seconds, is_padded=is_padded)


def _timed(run: Callable[[int], object], size: int) -> float:
    started_s = time.monotonic()
    run(size)
    return time.monotonic() - started_s
