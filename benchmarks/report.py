"""The tables, in Markdown.

    Results -> markdown()

Figures are medians of the rounds; ratios are medians of the ratios within each round, with the smallest and largest.
"others' cores" is what everything but server and load took of the machine meanwhile.
"""

from collections.abc import Iterator, Sequence
from statistics import median

from benchmarks.closed_loop import Turns, ratios
from benchmarks.results import Closed, Results
from benchmarks.tables import head, spread

MIB = 1024 * 1024
NOTHING = "nothing computed"


def markdown(results: Results) -> str:
    """All tables of what was measured."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: Results) -> Iterator[str]:
    machine = results.machine
    peers = "; ".join(
        ", ".join(f"{name} {version}" for name, version in pins.items()) for pins in machine.peers.values()
    )
    yield f"# Serving, {machine.date}\n"
    yield f"{machine.cpu}, {machine.cores} cores, {results.threads} engine threads, load before {machine.load_before:.2f}; "
    yield f"{machine.system}, Python {machine.python}, " + ", ".join(f"{n} {v}" for n, v in machine.packages.items())
    yield f"(commit {machine.commit}); {machine.generator}; peers: {peers or 'none'}.\n"
    yield f"    {machine.command}"
    for name, options in results.options.items():
        if options:
            yield f"\n{name}: `{options}`"
    for closed in results.closed:
        yield from _closed(closed, list(results.options))
    yield from _single(results)
    yield from _open(results)
    yield from _rest(results)
    if results.missing:
        yield "\n## Not measured\n"
        yield from (f"- {name}: {reason}" for name, reason in results.missing.items())


def _closed(closed: Closed, figments: list[str]) -> Iterator[str]:
    alone = closed.alone
    yield f"\n## {closed.graph}, {closed.images} images a request, 32 requests in flight\n"
    shape = f"batches of {alone.batch}, {alone.callers} at once, threads for each: {alone.threads}"
    yield f"Windows of {closed.window_s:.1f} s; alone: {shape}.\n"
    yield from head(
        "server", "images/s", "CPU us/image", "load's CPU us/image", "p50 ms", "p99 ms", "others' cores", "failed turns"
    )
    for name, turns in closed.turns.items():
        if not turns.good:
            yield f"| {name} | {turns.failure[:120]} | | | | | | {len(turns.samples)} |"
            continue
        load = median(sample.load_cpu_s / sample.images * 1e6 for sample in turns.good)
        p50, p99 = (_milliseconds([getattr(sample, key) for sample in turns.good]) for key in ("p50_s", "p99_s"))
        others = median(sample.others_cpu_s / sample.seconds for sample in turns.good)
        failed = len(turns.samples) - len(turns.good)
        rate, cpu = f"{turns.images_per_s():.0f}", f"{turns.cpu_us_per_image():.0f}"
        yield f"| {name} | {rate} | {cpu} | {load:.0f} | {p50} | {p99} | {others:.2f} | {failed or ''} |"
    yield ""
    yield from _ratios(closed.turns, figments)


def _ratios(turns: dict[str, Turns], figments: list[str]) -> Iterator[str]:
    known = [name for name in turns if turns[name].good and NOTHING not in name]
    ours = [name for name in known if name.removesuffix(" stream") in figments]
    others = [name for name in known if name not in ours]
    if not ours or not others:
        return
    yield from head("ratio", "images/s (more is better)", "CPU an image (less is better)")
    for name in ours:
        for other in [*(first for first in ours[:1] if first != name), *others]:
            found = ratios(turns, name, other)
            if found["images_per_s"]:
                yield f"| {name} / {other} | {spread(found['images_per_s'])} | {spread(found['cpu_us_per_image'])} |"


def _single(results: Results) -> Iterator[str]:
    if not results.single:
        return
    yield "\n## One client, one image a request, one request at a time\n"
    columns = (
        "graph",
        "server",
        "p50 us",
        "p99 us",
        "alone on 1 thread",
        "added to it",
        f"alone on {results.threads}",
        "added to it",
    )
    yield from head(*columns)
    for row in results.single:
        times = [row.p50_s, row.p99_s, row.alone_1_thread_s, row.over_1_thread_s]
        times += [row.alone_all_threads_s, row.p50_s - row.alone_all_threads_s]
        yield f"| {row.graph} | {row.server} | " + " | ".join(f"{time_s * 1e6:.0f}" for time_s in times) + " |"


def _open(results: Results) -> Iterator[str]:
    if not results.open:
        return
    yield "\n## Open loop: Poisson arrivals, 60% of 1 image, 25% of 4, 15% of 16; latency from the intended arrival\n"
    for graph, rate in results.capacities.items():
        yield f"Figment's capacity for the mix with this client beside it, {graph}: {rate:.0f} images/s."
    yield ""
    yield from head("graph", "load", "images/s", "server", "p50 ms", "p99 ms", "p99.9 ms", "requests", "failed")
    for point in results.open:
        times = " | ".join(
            "-" if each is None else f"{each * 1e3:.1f}" for each in (point.p50_s, point.p99_s, point.p999_s)
        )
        where = f"| {point.graph} | {point.fraction:.0%} | {point.images_per_s:.0f} | {point.server} "
        yield f"{where}| {times} | {point.requests} | {point.failures or ''} |"


def _rest(results: Results) -> Iterator[str]:
    if results.bulk:
        yield "\n## Single images beside a stream of 100,000\n"
        columns = ("graph", "requests", "p50 alone ms", "p50 ms", "p99 ms", "a run ms", "images a run", "p99 in runs")
        yield from head(*columns, "bulk images/s")
        for row in results.bulk:
            times = " | ".join(f"{s * 1e3:.1f}" for s in (row.alone_p50_s, row.p50_s, row.p99_s, row.run_s))
            runs = f"{row.run_images:.0f} | {row.p99_runs:.1f} | {row.bulk_images_per_s:.0f}"
            yield f"| {row.graph} | {row.requests} | {times} | {runs} |"
    if results.start:
        yield f"\nStart with three small models: READY after {results.start.ready_s:.2f} s, "
        yield f"{results.start.rss_bytes / MIB:.0f} MiB resident (medians of {results.start.starts})."
    if results.soak:
        soak = results.soak
        memory = f"{soak.rss_bytes[0] / MIB:.1f} MiB before, {soak.rss_bytes[-1] / MIB:.1f} after"
        yield f"\nSoak: {soak.requests[-1]} requests, {memory}; "
        yield f"{soak.slope_bytes:.0f} bytes a 1000 requests, {soak.settled_slope_bytes:.0f} in the second half."
    if results.idle_cores:
        idle = ", ".join(f"{name} {cores:.2f}" for name, cores in results.idle_cores.items())
        yield f"\nCores taken while nobody calls: {idle}."


def _milliseconds(times_s: Sequence[float | None]) -> str:
    known = [time_s for time_s in times_s if time_s is not None]
    return f"{median(known) * 1e3:.1f}" if known else ""
