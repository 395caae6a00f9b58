"""What a server adds to one run of the graph: one client, one image a request, one request at a time.

    rounds of [onnxruntime alone, each server] -> p50 of each -> p50 - p50 alone

The client is h2load, in C, so little of the difference is its own. Alone is measured on one thread and on all: servers
differ in how many threads they give to one image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.bare import Shape
from benchmarks.contenders import run_bare
from benchmarks.load import H2load, LoadFailed
from benchmarks.processes import StartFailed
from benchmarks.servers import Server


@dataclass(frozen=True)
class Added:
    """One server's latency beside the graph's own; seconds, medians over the rounds."""

    server: str
    graph: str
    p50_s: float
    p99_s: float
    alone_1_thread_s: float
    alone_all_threads_s: float

    @property
    def over_1_thread_s(self) -> float:
        """What is added to a run on one thread."""
        return self.p50_s - self.alone_1_thread_s


def measure(servers: Mapping[str, Server], file: Path, threads: int, rounds: int, seconds: float) -> list[Added]:
    """Each server once a round, the graph alone in every round too; servers that fail are left out and told."""
    alone: dict[int, list[float]] = {1: [], threads: []}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    for _ in range(rounds):
        for count, times in alone.items():
            times.append(run_bare(file, Shape(batch=1, callers=1, threads=count), seconds).run_p50_s)
        for name, server in servers.items():
            try:
                with server.turn(), H2load(server.target(1, flight=1), seconds) as load:
                    replies = load.replies()
            except (LoadFailed, StartFailed) as failure:
                print(f"  {name}: {failure}", flush=True)
                continue
            found[name].append((replies.percentile_s(50), replies.percentile_s(99)))
    added = []
    for name, times_s in found.items():
        if not times_s:
            continue
        p50_s, p99_s = median(p50 for p50, _ in times_s), median(p99 for _, p99 in times_s)
        graph = servers[name].graph.name
        added.append(Added(name, graph, p50_s, p99_s, median(alone[1]), median(alone[threads])))
        print(
            f"  {name:24}p50 {p50_s * 1e6:.0f} us, {added[-1].over_1_thread_s * 1e6:+.0f} us to the graph alone",
            flush=True,
        )
    return added
