"""Counters and histograms that cost next to nothing until somebody looks.

    inc(), observe() -> kept -> flush(), at each look at the metrics -> prometheus_client

A request is counted and timed a dozen times. A lock and a search among buckets each time were a twentieth of what a small
request costs; added up at once they are a hundredth of that. Knows prometheus_client and numpy.
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


class Count:
    """One counter of a family. Only one thread counts; any thread may flush, one at a time."""

    __slots__ = ("_amount", "_counter", "_flushed")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._amount = 0.0
        self._flushed = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Count."""
        self._amount += amount

    def flush(self) -> None:
        """Tell the counter."""
        amount = self._amount
        self._counter.inc(amount - self._flushed)
        self._flushed = amount


class Observations:
    """One histogram of a family. Any thread may observe; any thread may flush, one at a time."""

    __slots__ = ("_bounds", "_histogram", "_kept", "_slowest")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._bounds = np.array(histogram._upper_bounds)
        self._kept: list[float] = []
        self._slowest: tuple[float, str, str] = (-1.0, "", "")

    def observe(self, value: float, request_id: str = "", trace_id: str = "") -> None:
        """Keep an observation; of those between two looks the largest is told with its request."""
        self._kept.append(value)
        if request_id and value > self._slowest[0]:
            self._slowest = value, request_id, trace_id

    def flush(self) -> None:
        """Tell the histogram."""
        # Others may append meanwhile, behind what is taken.
        values = self._kept[:]
        del self._kept[: len(values)]
        if not values:
            return
        counts = np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._bounds))
        for bucket, count in enumerate(counts.tolist()):
            if count:
                self._histogram._buckets[bucket].inc(count)
        self._histogram._sum.inc(float(np.sum(values)))
        value, request_id, trace_id = self._slowest
        self._slowest = -1.0, "", ""
        if exemplar := _exemplar(request_id, trace_id):
            slowest = int(np.searchsorted(self._bounds, value))
            self._histogram._buckets[slowest].set_exemplar(Exemplar(exemplar, value, time.time()))


Child = TypeVar("Child", bound=Count | Observations)


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


def _exemplar(request_id: str, trace_id: str) -> dict[str, str]:
    """The labels of an exemplar; none if there is no request or they are too long."""
    labels = {"request_id": request_id, "trace_id": trace_id}
    known = {name: value for name, value in labels.items() if value}
    return known if sum(map(len, (*known, *known.values()))) <= MAX_EXEMPLAR else {}
