"""Start and memory of Figment: seconds to READY, resident memory with three models, and what many requests leave behind.

    start() -> three models -> /healthz says 200 -> seconds, RSS
    soak()  -> slices of requests -> RSS after each -> bytes a 1000 requests, by least squares

Pages that processes share are counted for each of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from benchmarks.serving.load import h2load, unary
from benchmarks.shared.processes import spawn
from benchmarks.shared.servers import START_S, Figment
from benchmarks.shared.workloads import BUNDLES, GRAPHS, LOGS

SLICE_REQUESTS = 10_000
SLICE_S = 300.0
"""Far more than a slice takes; only how long to wait for it."""

SETTLED = 0.5
"""Part of the soak that is left out of the second slope: allocators fill their pools first."""


@dataclass(frozen=True)
class Start:
    """Medians over several starts with three models of small28's size."""

    ready_s: float
    rss_bytes: float
    starts: int


@dataclass(frozen=True)
class Soak:
    """Resident memory by requests answered; slopes in bytes per 1000 requests."""

    requests: list[int]
    rss_bytes: list[int]
    slope_bytes: float
    settled_slope_bytes: float
    """The slope of the second half."""


def start(threads: int, options: Sequence[str], starts: int) -> Start:
    """Start the server `starts` times with the three models of `graphs`. Raises: Failed."""
    ready_s, rss_bytes = [], []
    for _ in range(starts):
        server = Figment("figment", replace(GRAPHS["small28"], name="three"), BUNDLES, threads, options)
        with spawn(server.command, LOGS / "figment-three.log") as process:
            ready_s.append(process.wait_until(server.is_ready, START_S))
            rss_bytes.append(process.rss_bytes())
    found = Start(median(ready_s), median(rss_bytes), starts)
    print(f"  ready in {found.ready_s:.2f} s, {found.rss_bytes / 1e6:.0f} MB with three models", flush=True)
    return found


def soak(server: Figment, requests: int) -> Soak:
    """Send `requests` requests of one image and watch the memory. Raises: Failed."""
    sent, rss_bytes = [0], [server.process.rss_bytes()]
    with server.turn():
        target = unary(server, 1)
        while sent[-1] < requests:
            size = min(SLICE_REQUESTS, requests - sent[-1])
            with h2load(target, SLICE_S, size) as load:
                load.replies()
            sent.append(sent[-1] + size)
            rss_bytes.append(server.process.rss_bytes())
    settled = int(len(sent) * SETTLED)
    found = Soak(sent, rss_bytes, slope(sent, rss_bytes), slope(sent[settled:], rss_bytes[settled:]))
    print(
        f"  {requests} requests: {rss_bytes[0] / 1e6:.1f} -> {rss_bytes[-1] / 1e6:.1f} MB, "
        f"{found.slope_bytes:.0f} bytes a 1000 requests, {found.settled_slope_bytes:.0f} in the second half",
        flush=True,
    )
    return found


def slope(requests: Sequence[int], rss_bytes: Sequence[int]) -> float:
    """Bytes that a thousand requests leave behind, by least squares; NaN of a single point."""
    return float(np.polyfit(np.array(requests) / 1000, rss_bytes, 1)[0]) if len(requests) > 1 else float("nan")
