"""What one run of the benchmark found, and its tables.

    parts -> Results, saved after each so that a run cut off loses little -> lines()

Figures are medians of the rounds; ratios are medians of the ratios within each round, with the smallest and largest.
"others' cores" is what everything but server and load took of the machine meanwhile.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isnan
from statistics import median

from benchmarks.serving.bare import Shape
from benchmarks.serving.bulk import Beside
from benchmarks.serving.memory import Soak, Start
from benchmarks.serving.open_loop import Point
from benchmarks.shared.machine import Machine
from benchmarks.shared.report import spread, table, versions
from benchmarks.shared.turns import Turns, ratios

MIB = 1024 * 1024
NOTHING = "nothing computed"


@dataclass
class Closed:
    """The closed loop of one workload; alone: how the graph alone gives most images a second."""

    graph: str
    images: int
    window_s: float
    alone: Shape
    turns: dict[str, Turns]


@dataclass
class Results:
    """What has been measured so far.

    options     Figment's further options, by the name in the tables
    single      turns of one client, by graph and contender
    capacities  Figment's images a second for the mix of sizes, by graph
    idle_cores  what each server takes while nobody calls
    missing     servers that could not be set up or started, and parts that failed: the reason
    """

    machine: Machine
    threads: int
    options: dict[str, str]
    closed: list[Closed] = field(default_factory=list)
    single: dict[str, dict[str, Turns]] = field(default_factory=dict)
    capacities: dict[str, float] = field(default_factory=dict)
    open: list[Point] = field(default_factory=list)
    bulk: list[Beside] = field(default_factory=list)
    start: Start | None = None
    soak: Soak | None = None
    idle_cores: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def miss(self, what: str, reason: str) -> None:
        """Keep the reason, and tell it."""
        self.missing[what] = reason
        print(f"  {what}: {reason}", flush=True)


def lines(results: Results) -> Iterator[str]:
    """All tables of what was measured."""
    machine = results.machine
    peers = "; ".join(map(versions, machine.peers.values()))
    yield f"# Serving, {machine.date}\n"
    yield f"{machine.cpu}, {machine.cores} cores, {results.threads} engine threads, load before {machine.load_before:.2f}; "
    yield f"{machine.system}, Python {machine.python}, {versions(machine.packages)}"
    yield f"(commit {machine.commit}); {machine.generator}; peers: {peers or 'none'}.\n"
    yield f"    {machine.command}"
    yield from (f"\n{name}: `{options}`" for name, options in results.options.items() if options)
    for closed in results.closed:
        yield from _closed(closed, list(results.options))
    if results.single:
        yield from _single(results)
    if results.open:
        yield from _open(results)
    if results.bulk:
        yield from _bulk(results)
    yield from _rest(results)


def bare_name(threads: int) -> str:
    """The graph alone, as one client runs it."""
    return f"alone on {threads} thread{'s' if threads > 1 else ''}"


def _closed(closed: Closed, figments: list[str]) -> Iterator[str]:
    alone = closed.alone
    yield f"\n## {closed.graph}, {closed.images} images a request, 32 requests in flight\n"
    shape = f"batches of {alone.batch}, {alone.callers} at once, threads for each: {alone.threads}"
    yield f"Windows of {closed.window_s:.1f} s; alone: {shape}.\n"
    columns = ("images/s", "CPU us/image", "load's CPU us/image", "p50 ms", "p99 ms", "others' cores", "failed turns")
    yield from table(["server", *columns], (_server(name, turns) for name, turns in closed.turns.items()))
    yield ""
    names = [name for name, turns in closed.turns.items() if turns.good and NOTHING not in name]
    ours = [name for name in names if name.removesuffix(" stream") in figments]
    others = [name for name in names if name not in ours]
    if ours and others:
        pairs = [(a, b) for a in ours for b in (*(first for first in ours[:1] if first != a), *others)]
        rows = [
            (f"{a} / {b}", *(spread(ratios(closed.turns, a, b, key)) for key in ("images_per_s", "cpu_us_per_image")))
            for a, b in pairs
        ]
        better = ("images/s (more is better)", "CPU an image (less is better)")
        yield from table(("ratio", *better), (cells for cells in rows if cells[1]))


def _server(name: str, turns: Turns) -> list[str]:
    if not turns.good:
        return [name, turns.failure[:120], "", "", "", "", "", str(len(turns.samples))]
    load = median(sample.load_cpu_s / sample.images * 1e6 for sample in turns.good)
    others = median(sample.others_cpu_s / sample.seconds for sample in turns.good)
    times = [_ms(turns.median(key)) if turns.good[0].p99_s else "" for key in ("p50_s", "p99_s")]
    failed = len(turns.samples) - len(turns.good)
    rates = [f"{turns.median(key):.0f}" for key in ("images_per_s", "cpu_us_per_image")]
    return [name, *rates, f"{load:.0f}", *times, f"{others:.2f}", str(failed or "")]


def _single(results: Results) -> Iterator[str]:
    yield "\n## One client, one image a request, one request at a time\n"
    alone = ("alone on 1 thread", "added to it", f"alone on {results.threads}", "added to it")
    yield from table(("graph", "server", "p50 us", "p99 us", *alone), _single_rows(results))


def _single_rows(results: Results) -> Iterator[list[str]]:
    for graph, turns in results.single.items():
        bare = {threads: bare_name(threads) for threads in (1, results.threads)}
        for name, turn in turns.items():
            if name in bare.values() or not turn.good:
                continue
            times_s = [turn.median("p50_s"), turn.median("p99_s")]
            for threads in (1, results.threads):
                alone_s = turns[bare[threads]].median("p50_s")
                times_s += [alone_s, times_s[0] - alone_s]
            yield [graph, name, *("" if isnan(time_s) else f"{time_s * 1e6:.0f}" for time_s in times_s)]


def _open(results: Results) -> Iterator[str]:
    yield "\n## Open loop: Poisson arrivals, 60% of 1 image, 25% of 4, 15% of 16; latency from the intended arrival\n"
    for graph, rate in results.capacities.items():
        yield f"Figment's capacity for the mix with this client beside it, {graph}: {rate:.0f} images/s."
    yield ""
    columns = ("graph", "load", "images/s", "server", "p50 ms", "p99 ms", "p99.9 ms", "requests", "failed")
    yield from table(columns, map(_point, results.open))


def _point(point: Point) -> list[str]:
    found = point.outcome
    times = ["-" if each is None else _ms(each) for each in (found.p50_s, found.p99_s, found.p999_s)]
    where = [point.graph, f"{point.fraction:.0%}", f"{point.images_per_s:.0f}", point.server]
    return [*where, *times, str(found.requests), str(found.failures or "")]


def _bulk(results: Results) -> Iterator[str]:
    yield "\n## Single images beside a stream of 100,000\n"
    columns = ("graph", "requests", "p50 alone ms", "p50 ms", "p99 ms", "a run ms", "images a run", "p99 in runs")
    rows = [
        (
            each.graph,
            str(each.requests),
            *map(_ms, (each.alone_p50_s, each.p50_s, each.p99_s, each.run_s)),
            f"{each.run_images:.0f}",
            f"{each.p99_runs:.1f}",
            f"{each.bulk_images_per_s:.0f}",
        )
        for each in results.bulk
    ]
    yield from table([*columns, "bulk images/s"], rows)


def _rest(results: Results) -> Iterator[str]:
    if results.start:
        yield f"\nStart with three small models: READY after {results.start.ready_s:.2f} s, "
        yield f"{results.start.rss_bytes / MIB:.0f} MiB resident (medians of {results.start.starts})."
    if soak := results.soak:
        memory = f"{soak.rss_bytes[0] / MIB:.1f} MiB before, {soak.rss_bytes[-1] / MIB:.1f} after"
        yield f"\nSoak: {soak.requests[-1]} requests, {memory}; "
        yield f"{soak.slope_bytes:.0f} bytes a 1000 requests, {soak.settled_slope_bytes:.0f} in the second half."
    if results.idle_cores:
        idle = ", ".join(f"{name} {cores:.2f}" for name, cores in results.idle_cores.items())
        yield f"\nCores taken while nobody calls: {idle}."
    if results.missing:
        yield "\n## Not measured\n"
        yield from (f"- {name}: {reason}" for name, reason in results.missing.items())


def _ms(time_s: float) -> str:
    return f"{time_s * 1e3:.1f}"
