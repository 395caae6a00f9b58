"""Latency under arrivals that do not wait for the server, at the same absolute rates for every server.

    Figment's capacity for the mix of sizes -> 50, 70, 90% of it -> each server in turn -> p50, p99, p99.9

The capacity is what a closed loop of the same client and mix reaches with FLIGHT requests in flight, so that it
includes what the client takes from the cores.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks.serving.arrivals import MIX
from benchmarks.serving.callers import Order, Outcome, send
from benchmarks.serving.load import FLIGHT
from benchmarks.shared.processes import Failed, apart
from benchmarks.shared.servers import Server

ENOUGH = 1000
"""Requests from which a p99.9 says something."""

WARM_S = 1.0
FINISH_S = 60.0


@dataclass(frozen=True)
class Point:
    """One server at one rate; latencies in seconds from the intended arrival.

    None = more requests failed than the percentile leaves out, or too few to tell.
    """

    server: str
    graph: str
    images_per_s: float
    fraction: float
    requests: int
    failures: int
    failure: str
    p50_s: float | None
    p99_s: float | None
    p999_s: float | None
    client_late_p99_s: float


def capacity(server: Server, seconds: float) -> float:
    """Images a second of the mix in a closed loop, by the open loop's client; median of three. Raises: Failed."""
    outcomes = [_sent(server, seconds, flight=FLIGHT) for _ in range(3)]
    for outcome in outcomes:
        if outcome.failures or not outcome.images:
            raise Failed(f"{server.name}: capacity: {outcome.failures} requests failed: {outcome.failure}")
    return median(outcome.images / seconds for outcome in outcomes)


def measure(
    servers: Iterable[Server], fractions: Sequence[float], full_images_per_s: float, seconds: float
) -> list[Point]:
    """Every server at every rate, servers in turn; one that has ended fails from then on."""
    points = []
    for fraction, server in ((fraction, server) for fraction in fractions for server in servers):
        images_per_s = fraction * full_images_per_s
        try:
            outcome = _sent(server, seconds, images_per_s=images_per_s)
        except Failed as failure:
            outcome = Outcome(failures=1, failure=str(failure))
        point = point_of(server.name, server.graph.name, images_per_s, fraction, outcome)
        points.append(point)
        times = (point.p50_s, point.p99_s, point.p999_s)
        told = " ".join("-" if value is None else f"{value * 1e3:.1f}" for value in times)
        failed = f", {point.failures} failed: {point.failure}" if point.failures else ""
        print(f"  {server.name:24}{fraction:4.0%} p50 p99 p99.9: {told} ms{failed}", flush=True)
    return points


def point_of(server: str, graph: str, images_per_s: float, fraction: float, outcome: Outcome) -> Point:
    """Percentiles of all requests: one that failed took for ever."""
    requests = len(outcome.latencies_s) + outcome.failures
    latencies = np.sort(np.array([*outcome.latencies_s, *[np.inf] * outcome.failures]))

    def percentile_s(percent: float) -> float | None:
        value = latencies[min(requests - 1, int(requests * percent / 100))]
        return float(value) if np.isfinite(value) else None

    return Point(
        server=server,
        graph=graph,
        images_per_s=images_per_s,
        fraction=fraction,
        requests=requests,
        failures=outcome.failures,
        failure=outcome.failure,
        p50_s=percentile_s(50),
        p99_s=percentile_s(99),
        p999_s=percentile_s(99.9) if requests >= ENOUGH else None,
        client_late_p99_s=outcome.late_s,
    )


def _sent(server: Server, seconds: float, images_per_s: float = 0.0, flight: int = 0) -> Outcome:
    order = Order(
        port=server.port,
        path=server.wire.path,
        is_grpc=server.wire.is_grpc,
        bodies={images: server.wire.request(images) for images in MIX},
        image_bytes=server.graph.image_bytes,
        warm_s=WARM_S,
        seconds=seconds,
        images_per_s=images_per_s,
        flight=flight,
    )
    with server.turn():
        return apart(send, WARM_S + seconds + FINISH_S, order)
