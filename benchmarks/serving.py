"""`python -m benchmarks.serving`: Figment's server beside its peers, on one machine, in turns.

    plan -> bundles -> for each graph: fleet -> closed loop, one client, open loop, bulk -> start, soak -> tables, plots

Needs h2load (Debian's nghttp2-client). Peers get environments of their own on first use. All load goes to 127.0.0.1.
"""

import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

from benchmarks import bulk, latency, memory, open_loop, plan, report
from benchmarks.closed_loop import take_turns
from benchmarks.contenders import best_shape, run_bare
from benchmarks.fleet import BUNDLES, LOGS, Fleet, fleet
from benchmarks.load import LoadFailed
from benchmarks.machine import machine
from benchmarks.plan import HOME, Plan
from benchmarks.processes import StartFailed, run
from benchmarks.results import Closed, Results
from benchmarks.servers import onnx_file
from benchmarks.workloads import FLIGHT, GRAPHS

SHORT_S = 1.0


def main() -> None:
    """Measure what the command line asks for, print the tables, write them beside the figures."""
    chosen = plan.read()
    signal.signal(signal.SIGTERM, _interrupted)  # so that whatever ends this ends the servers too
    HOME.mkdir(exist_ok=True)
    (HOME / ".gitignore").write_text("*\n")
    chosen.out.mkdir(parents=True, exist_ok=True)
    run([sys.executable, "-m", "benchmarks.graphs", str(BUNDLES)])
    options = {name: " ".join(given) for name, given in chosen.variants.items()}
    results = Results(machine(chosen.peers), chosen.threads, options)
    try:
        for name in chosen.graphs:
            _measure_graph(chosen, name, results)
        _measure_server(chosen, results)
    except KeyboardInterrupt:
        results.missing["the rest"] = "interrupted"
    _finish(results, chosen.out)


def _measure_graph(chosen: Plan, name: str, results: Results) -> None:
    """Everything that takes turns on one graph."""
    file = onnx_file(BUNDLES, GRAPHS[name])
    if not {"closed", "single", "open", "bulk"} & set(chosen.parts):
        return
    print(f"{name}: starting servers", flush=True)
    with fleet(chosen, GRAPHS[name], results) as servers:
        if "closed" in chosen.parts:
            alone = best_shape(file, chosen.threads)
            rate = run_bare(file, alone, SHORT_S)
            for images in chosen.images:
                print(f"{name}, {images} images a request", flush=True)
                span = chosen.span.covering(FLIGHT * images * rate.seconds / rate.images)
                turns = take_turns(servers.contenders(chosen, images, alone), chosen.rounds, span)
                results.closed.append(Closed(name, images, span.window_s, alone, turns))
                results.save(chosen.out / "results.json")
        if "single" in chosen.parts:
            print(f"{name}, one client", flush=True)
            seconds = chosen.span.window_s / 2
            results.single += latency.measure(servers.all, file, chosen.threads, chosen.rounds, seconds)
        if "open" in chosen.parts and servers.figments:
            _attempt(results, f"open loop, {name}", lambda: _measure_open(chosen, servers, results))
        if "bulk" in chosen.parts and servers.figments:
            print(f"{name}, beside a bulk", flush=True)
            server = next(iter(servers.figments.values()))
            _attempt(results, f"bulk, {name}", lambda: results.bulk.append(bulk.measure(server, chosen.bulk_s)))
        results.save(chosen.out / "results.json")


def _measure_open(chosen: Plan, servers: Fleet, results: Results) -> None:
    name = servers.graph.name
    full = open_loop.capacity(next(iter(servers.figments.values())), chosen.open_s / 3)
    results.capacities[name] = full
    print(f"{name}, open loop: capacity {full:.0f} images/s of mixed sizes", flush=True)
    results.open += open_loop.measure(servers.all, chosen.open_fractions, full, chosen.open_s)


def _measure_server(chosen: Plan, results: Results) -> None:
    """What concerns Figment alone."""
    options = chosen.variants["figment"]
    if "start" in chosen.parts:
        print("start with three models", flush=True)

        def start() -> None:
            results.start = memory.start(BUNDLES / "three", LOGS, chosen.threads, options, chosen.starts)

        _attempt(results, "start", start)
    if "soak" in chosen.parts:
        print("soak", flush=True)
        only = replace(chosen, contenders=("figment",), variants={"figment": options})
        with fleet(only, GRAPHS["small28"], results) as servers:

            def soak() -> None:
                results.soak = memory.soak(servers.figments["figment"], chosen.soak_requests)

            if servers.figments:
                _attempt(results, "soak", soak)


def _attempt(results: Results, part: str, measure: Callable[[], None]) -> None:
    """Let one part fail without the others."""
    try:
        measure()
    except (LoadFailed, StartFailed) as failure:
        results.missing[part] = str(failure)
        print(f"  {part}: {failure}", flush=True)


def _finish(results: Results, out: Path) -> None:
    results.save(out / "results.json")
    tables = report.markdown(results)
    (out / "tables.md").write_text(tables)
    try:
        from benchmarks.plots import draw
    except ModuleNotFoundError as missing:
        print(f"no plots: {missing}", flush=True)
    else:
        draw(results, out)
    print(f"\n{tables}\nwritten to {out}", flush=True)


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
