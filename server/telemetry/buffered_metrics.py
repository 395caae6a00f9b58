"""Counters and histograms that cost next to nothing until somebody scrapes them.

    inc(), observe(): append to a list -> flush(), at each scrape -> prometheus_client

A request is counted and timed a dozen times. A lock and a search among buckets each time were a twentieth of what a small
request costs; an append is a hundredth of that. Knows prometheus_client and numpy.

A histogram's buckets are filled at once through attributes that prometheus_client keeps to itself (`_upper_bounds`,
`_buckets`, `_sum`): its `observe` takes one value, and a second of a busy server has a hundred thousand. So the
project's metadata allow only versions that have them.
"""

import time
from collections.abc import Callable
from functools import cache
from typing import Any, Generic, TypeVar

import numpy as np
from prometheus_client import Counter, Histogram
from prometheus_client.samples import Exemplar

MAX_EXEMPLAR = 128
"""Characters of an exemplar, names and values, that OpenMetrics allows."""

Observation = tuple[float, str, str]
"""A value, the id of the request that it is about, and the id of its trace or ""."""

Item = TypeVar("Item")


class BufferedCounter:
    """One counter of a family; `inc(amount)` may be called from any thread, `flush` from one at a time."""

    __slots__ = ("_amounts", "_counter", "inc")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._amounts: list[float] = []
        self.inc: Callable[[float], None] = self._amounts.append

    def flush(self) -> None:
        """Add what was counted since the last flush to the counter."""
        self._counter.inc(sum(_taken(self._amounts)))


class BufferedHistogram:
    """One histogram of a family; any thread may observe, one at a time may flush.

    observe           a value
    observe_request   a value with its request; the largest between two scrapes becomes an exemplar
    """

    __slots__ = ("_bounds", "_histogram", "_requests", "_values", "observe", "observe_request")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._bounds = np.array(histogram._upper_bounds)
        self._values: list[float] = []
        self._requests: list[Observation] = []
        self.observe: Callable[[float], None] = self._values.append
        self.observe_request: Callable[[Observation], None] = self._requests.append

    def flush(self) -> None:
        """Add what was observed since the last flush to the histogram."""
        requests = _taken(self._requests)
        values = _taken(self._values) + [value for value, _, _ in requests]
        if not values:
            return
        counts = np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._bounds))
        for bucket, count in enumerate(counts.tolist()):
            if count:
                self._histogram._buckets[bucket].inc(count)
        self._histogram._sum.inc(float(np.sum(values)))
        if requests:
            slowest, request_id, trace_id = max(requests)
            if exemplar := _exemplar(request_id, trace_id):
                bucket = int(np.searchsorted(self._bounds, slowest))
                self._histogram._buckets[bucket].set_exemplar(Exemplar(exemplar, slowest, time.time()))


Child = TypeVar("Child", bound=BufferedCounter | BufferedHistogram)


class Family(Generic[Child]):
    """A family of counters, or of histograms, of prometheus_client; `child` makes what counts or observes for one of them."""

    def __init__(self, metric: Counter | Histogram, child: Callable[[Any], Child]) -> None:
        self._metric = metric
        self._make = child
        self._children: list[Child] = []
        # Label sets are closed, so all children can be kept at hand.
        self.labels = cache(self._child)

    def flush(self) -> None:
        """Flush all."""
        for child in self._children:
            child.flush()

    def _child(self, *labels: str) -> Child:
        child = self._make(self._metric.labels(*labels))
        self._children.append(child)
        return child


def _taken(buffer: list[Item]) -> list[Item]:
    """What is in a buffer, which loses it; others may append meanwhile, behind what is taken."""
    items = buffer[:]
    del buffer[: len(items)]
    return items


def _exemplar(request_id: str, trace_id: str) -> dict[str, str]:
    """The labels of an exemplar; none if they are too long."""
    labels = {"request_id": request_id} | ({"trace_id": trace_id} if trace_id else {})
    return labels if sum(map(len, (*labels, *labels.values()))) <= MAX_EXEMPLAR else {}
