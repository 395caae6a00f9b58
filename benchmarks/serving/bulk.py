"""Small requests beside a large one: how long a stream of 100,000 images makes single images wait.

    StreamGenerate of BULK_IMAGES on one connection | unary requests of 1 image on another -> their p99

A small request cannot be answered before the run that it finds going on has ended and its own has: two runs, beside
what the server adds. So the p99 is told in runs of the engine, as the server ran them meanwhile.
"""

from dataclasses import dataclass

from benchmarks.serving.contenders import Unary
from benchmarks.serving.load import h2load, streaming, wait_until
from benchmarks.shared.servers import Figment
from benchmarks.shared.turns import Span

BULK_IMAGES = 100_000
WARM_S = 1.0
TAIL_S = 2.0


@dataclass(frozen=True)
class Beside:
    """Small requests alone and beside the bulk; a run is the engine's, `run_images` images on average."""

    graph: str
    requests: int
    alone_p50_s: float
    p50_s: float
    p99_s: float
    run_s: float
    run_images: float
    bulk_images_per_s: float

    @property
    def p99_runs(self) -> float:
        """The p99 in units of one run."""
        return self.p99_s / self.run_s


def measure(server: Figment, seconds: float) -> Beside:
    """Small requests for `seconds` alone, then for `seconds` beside the bulk. Raises: Failed."""
    small, span = Unary(server, 1, flight=1), Span(0, seconds)
    alone = small.measure(span)
    with server.turn(), h2load(streaming(server, BULK_IMAGES, 1, 1), WARM_S + seconds + TAIL_S) as bulk:
        wait_until(bulk.started_s + WARM_S)
        before = server.metrics()
        beside = small.measure(span)
        after = server.metrics()

    def grown(metric: str, labels: str = "") -> float:
        sample = f'{metric}{{model="{server.graph.name}"{labels}}}'
        return after.get(sample, 0.0) - before.get(sample, 0.0)

    def mean(metric: str, labels: str = "") -> float:
        return grown(f"{metric}_sum", labels) / max(1.0, grown(f"{metric}_count", labels))

    assert alone.p50_s and beside.p50_s and beside.p99_s, "a unary load has latencies"  # noqa: PT018
    found = Beside(
        graph=server.graph.name,
        requests=round(beside.images),
        alone_p50_s=alone.p50_s,
        p50_s=beside.p50_s,
        p99_s=beside.p99_s,
        run_s=mean("figment_stage_seconds", ',stage="infer"'),
        run_images=mean("figment_batch_images"),
        bulk_images_per_s=(grown("figment_images_total") - beside.images) / beside.seconds,
    )
    print(
        f"  p99 {found.p99_s * 1e3:.1f} ms = {found.p99_runs:.1f} runs of {found.run_images:.0f} images beside "
        f"{found.bulk_images_per_s:.0f} images/s; p50 alone {found.alone_p50_s * 1e3:.1f} ms",
        flush=True,
    )
    return found
