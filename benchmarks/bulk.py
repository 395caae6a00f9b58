"""Small requests beside a large one: how long a stream of 100,000 images makes single images wait.

    StreamGenerate of BULK_IMAGES on one connection | unary requests of 1 image on another -> their p99

A small request cannot be answered before the run that it finds going on has ended and its own has: two runs, beside
what the server adds. So the p99 is told in runs of the engine, as the server ran them meanwhile.
"""

from dataclasses import dataclass

from benchmarks.load import H2load, Target, wait_until
from benchmarks.servers import Figment
from benchmarks.wires import FigmentWire, framed

BULK_IMAGES = 100_000
WARM_S = 1.0
TAIL_S = 0.5


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
    """Small requests for `seconds` alone, then for `seconds` beside the bulk. Raises: LoadFailed, StartFailed."""
    with server.turn():
        small = server.target(1, flight=1)
        with H2load(small, seconds) as load:
            alone = load.replies()
        wire = FigmentWire(server.graph.name)
        body = framed(wire.stream_request(BULK_IMAGES, 0))
        bulk = Target(server.port, wire.stream_path, True, body, 1, 1)
        with H2load(bulk, WARM_S + seconds + TAIL_S) as stream:
            wait_until(stream.started_s + WARM_S)
            before = server.metrics()
            with H2load(small, seconds) as load:
                replies = load.replies()
            after = server.metrics()

    def grown(sample: str) -> float:
        return after.get(sample, 0.0) - before.get(sample, 0.0)

    model = server.graph.name
    infer, batch = f'{{model="{model}",stage="infer"}}', f'{{model="{model}"}}'
    found = Beside(
        graph=model,
        requests=len(replies.end_s),
        alone_p50_s=alone.percentile_s(50),
        p50_s=replies.percentile_s(50),
        p99_s=replies.percentile_s(99),
        run_s=grown(f"figment_stage_seconds_sum{infer}") / max(1.0, grown(f"figment_stage_seconds_count{infer}")),
        run_images=grown(f"figment_batch_images_sum{batch}") / max(1.0, grown(f"figment_batch_images_count{batch}")),
        bulk_images_per_s=(grown(f"figment_images_total{batch}") - len(replies.end_s)) / seconds,
    )
    print(
        f"  p99 {found.p99_s * 1e3:.1f} ms = {found.p99_runs:.1f} runs of {found.run_images:.0f} images beside "
        f"{found.bulk_images_per_s:.0f} images/s; p50 alone {found.alone_p50_s * 1e3:.1f} ms",
        flush=True,
    )
    return found
