"""Latency under arrivals that do not wait for the server, at the same absolute rates for every server.

    Figment's capacity for the mix of sizes -> 50, 70, 90% of it -> each server in turn -> p50, p99, p99.9

The capacity is what a closed loop of the same client and mix reaches with FLIGHT requests in flight, so that it
includes what the client takes from the cores.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.serving.arrivals import MIX
from benchmarks.serving.callers import Order, Outcome, send
from benchmarks.serving.load import FLIGHT
from benchmarks.shared.processes import Failed, in_subprocess
from benchmarks.shared.servers import Server

WARM_S = 1.0
FINISH_S = 60.0


@dataclass(frozen=True)
class Point:
    """One server at one rate, which is `fraction` of Figment's capacity."""

    server: str
    graph: str
    fraction: float
    images_per_s: float
    outcome: Outcome


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
            found = _sent(server, seconds, images_per_s=images_per_s)
        except Failed as failure:
            found = Outcome(requests=1, images=0, failures=1, failure=str(failure))
        points.append(Point(server.name, server.graph.name, fraction, images_per_s, found))
        times_s = (found.p50_s, found.p99_s, found.p999_s)
        times = " ".join("-" if time_s is None else f"{time_s * 1e3:.1f}" for time_s in times_s)
        failed = f", {found.failures} failed: {found.failure}" if found.failures else ""
        print(f"  {server.name:24}{fraction:4.0%} p50 p99 p99.9: {times} ms{failed}", flush=True)
    return points


def _sent(server: Server, seconds: float, images_per_s: float = 0.0, flight: int = 0) -> Outcome:
    order = Order(
        port=server.port,
        path=server.endpoint.path,
        is_grpc=server.endpoint.is_grpc,
        bodies={images: server.endpoint.request(images) for images in MIX},
        image_bytes=server.graph.image_bytes,
        warm_s=WARM_S,
        seconds=seconds,
        images_per_s=images_per_s,
        flight=flight,
    )
    with server.turn():
        return in_subprocess(send, WARM_S + seconds + FINISH_S, order)
