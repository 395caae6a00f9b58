"""Latency under arrivals that do not wait for the server, at the same absolute rates for every server.

    Figment's capacity for the mix of sizes -> 50, 70, 90% of it -> each server in turn -> p50, p99, p99.9

The capacity is what a closed loop of the same client and mix reaches with FLIGHT requests in flight, so that it
includes what the client takes from the cores.
"""

import base64
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np

from benchmarks.callers import Order, Outcome
from benchmarks.load import LoadFailed
from benchmarks.processes import CommandFailed, StartFailed, run
from benchmarks.servers import Server
from benchmarks.workloads import FLIGHT, MIX

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
    client_cpu_us_per_request: float


def capacity(server: Server, seconds: float) -> float:
    """Images a second of the mix in a closed loop, by the open loop's client; median of three."""

    def once() -> float:
        outcome = _send(server, seconds, flight=FLIGHT)
        if outcome.failures or not outcome.images:
            raise LoadFailed(f"{server.name}: capacity: {outcome.failures} requests failed: {outcome.failure}")
        return outcome.images / outcome.seconds

    return median(once() for _ in range(3))


def measure(
    servers: Mapping[str, Server], fractions: Sequence[float], full_images_per_s: float, seconds: float
) -> list[Point]:
    """Every server at every rate, servers in turn; a server that ends is left out from then on."""
    points = []
    for fraction in fractions:
        for server in servers.values():
            try:
                outcome = _send(server, seconds, images_per_s=fraction * full_images_per_s)
            except (LoadFailed, StartFailed) as failure:
                outcome = Outcome(failures=1, failure=str(failure))
            point = _point(server, fraction, full_images_per_s, outcome)
            points.append(point)
            told = [
                f"{value * 1e3:.1f}" if value is not None else "-" for value in (point.p50_s, point.p99_s, point.p999_s)
            ]
            failed = f", {point.failures} failed: {point.failure}" if point.failures else ""
            print(f"  {server.name:24}{fraction:4.0%} p50 p99 p99.9: {' '.join(told)} ms{failed}", flush=True)
    return points


def _send(server: Server, seconds: float, images_per_s: float = 0.0, flight: int = 0) -> Outcome:
    with server.turn():
        sizes = [images for images, _ in MIX]
        order = Order(
            port=server.port,
            path=server.wire.path,
            is_grpc=server.wire.is_grpc,
            bodies={str(images): base64.b64encode(server.wire.request(images)).decode() for images in sizes},
            reply_bytes={str(images): images * server.graph.image_bytes for images in sizes},
            warm_s=WARM_S,
            seconds=seconds,
            images_per_s=images_per_s,
            flight=flight,
        )
        command, text = [sys.executable, "-m", "benchmarks.callers"], json.dumps(asdict(order))
        try:
            return Outcome(**json.loads(run(command, text, WARM_S + seconds + FINISH_S)))
        except CommandFailed as failure:
            raise LoadFailed(f"{server.name}: {failure}") from None


def _point(server: Server, fraction: float, full_images_per_s: float, outcome: Outcome) -> Point:
    requests = len(outcome.latencies_s) + outcome.failures
    latencies = np.sort(np.array([*outcome.latencies_s, *[np.inf] * outcome.failures]))

    def percentile_s(percent: float) -> float | None:
        value = latencies[min(requests - 1, int(requests * percent / 100))]
        return float(value) if np.isfinite(value) else None

    return Point(
        server=server.name,
        graph=server.graph.name,
        images_per_s=fraction * full_images_per_s,
        fraction=fraction,
        requests=requests,
        failures=outcome.failures,
        failure=outcome.failure,
        p50_s=percentile_s(50),
        p99_s=percentile_s(99),
        p999_s=percentile_s(99.9) if requests >= ENOUGH else None,
        client_late_p99_s=outcome.late_s,
        client_cpu_us_per_request=outcome.client_cpu_s / requests * 1e6,
    )
