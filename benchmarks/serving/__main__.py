"""`python -m benchmarks.serving`: Figment's server beside its peers, on one machine, in turns.

    plan -> bundles -> for each graph: fleet -> closed loop, one client, open loop, bulk -> start, soak -> tables, plots

Needs h2load (Debian's nghttp2-client). Peers get environments of their own on first use. All load goes to 127.0.0.1.
"""

from collections.abc import Callable

from benchmarks.serving import bulk, memory, open_loop, plan
from benchmarks.serving.bare import Bare, Shape, best_shape
from benchmarks.serving.contenders import Unary
from benchmarks.serving.fleet import Fleet, fleet
from benchmarks.serving.load import FLIGHT
from benchmarks.serving.plan import Plan
from benchmarks.serving.report import Closed, Results, bare_name, lines
from benchmarks.shared.machine import machine
from benchmarks.shared.processes import Failed
from benchmarks.shared.report import publish, save
from benchmarks.shared.turns import Span, Turns, take_turns
from benchmarks.shared.workloads import BUNDLES, GRAPHS, onnx_file, prepare

SHORT_S = 1.0


def main() -> None:
    """Measure what the command line asks for, print the tables, write them beside the figures."""
    chosen = plan.read()
    prepare(chosen.out, BUNDLES)
    options = {name: " ".join(words) for name, words in chosen.variants.items()}
    results = Results(machine("benchmarks.serving", chosen.peers), chosen.threads, options)
    try:
        for name in chosen.graphs:
            if {"closed", "single", "open", "bulk"} & set(chosen.parts):
                print(f"{name}: starting servers", flush=True)
                with fleet(chosen, GRAPHS[name], results) as servers:
                    _measure_graph(chosen, servers, results)
        _measure_server(chosen, results)
    except KeyboardInterrupt:
        results.missing["the rest"] = "interrupted"
    try:
        from benchmarks.serving.plots import draw
    except ModuleNotFoundError as missing:
        print(f"no plots: {missing}", flush=True)
    else:
        draw(results, chosen.out)
    publish(results, lines(results), chosen.out / "results.json", chosen.out / "tables.md")


def _measure_graph(chosen: Plan, servers: Fleet, results: Results) -> None:
    """Everything that takes turns on one graph."""
    name = servers.graph.name
    if "closed" in chosen.parts:
        _attempt(results, f"closed loop, {name}", lambda: _measure_closed(chosen, servers, results))
    if "single" in chosen.parts:
        print(f"{name}, one client", flush=True)
        results.single[name] = _measure_single(chosen, servers)
    if "open" in chosen.parts and servers.figments:
        _attempt(results, f"open loop, {name}", lambda: _measure_open(chosen, servers, results))
    if "bulk" in chosen.parts and servers.figments:
        print(f"{name}, beside a bulk", flush=True)
        server = servers.figments[0]
        _attempt(results, f"bulk, {name}", lambda: results.bulk.append(bulk.measure(server, chosen.bulk_seconds)))
    save(results, chosen.out / "results.json")


def _measure_closed(chosen: Plan, servers: Fleet, results: Results) -> None:
    name, file = servers.graph.name, onnx_file(BUNDLES, servers.graph)
    alone = best_shape(file, chosen.threads)
    images_per_s = Bare(file, alone).measure(Span(0, SHORT_S)).images_per_s
    for images in chosen.images:
        print(f"{name}, {images} images a request", flush=True)
        span = chosen.span.covering(FLIGHT * images / images_per_s)
        turns = take_turns(list(servers.contenders(chosen, images, alone)), chosen.rounds, span)
        results.closed.append(Closed(name, images, span.window_s, alone, turns))
        save(results, chosen.out / "results.json")


def _measure_single(chosen: Plan, servers: Fleet) -> dict[str, Turns]:
    """What a server adds to one run of the graph, which is measured on one thread and on all: servers differ in theirs."""
    file, span = onnx_file(BUNDLES, servers.graph), Span(0, chosen.span.window_s / 2)
    alone = [Bare(file, Shape(1, 1, threads), bare_name(threads)) for threads in sorted({1, chosen.threads})]
    return take_turns([*alone, *(Unary(server, 1, flight=1) for server in servers.all)], chosen.rounds, span)


def _measure_open(chosen: Plan, servers: Fleet, results: Results) -> None:
    name = servers.graph.name
    full = results.capacities[name] = open_loop.capacity(servers.figments[0], chosen.open_seconds / 3)
    print(f"{name}, open loop: capacity {full:.0f} images/s of mixed sizes", flush=True)
    results.open += open_loop.measure(servers.all, chosen.open_fractions, full, chosen.open_seconds)


def _measure_server(chosen: Plan, results: Results) -> None:
    """What concerns Figment alone."""
    options = chosen.variants["figment"]

    def start() -> None:
        results.start = memory.start(chosen.threads, options, chosen.starts)

    def soak() -> None:
        only = Plan(**{**vars(chosen), "contenders": ("figment",), "variants": {"figment": options}})
        with fleet(only, GRAPHS["small28"], results) as servers:
            for server in servers.figments:
                results.soak = memory.soak(server, chosen.soak_requests)

    for part, what, measure in (("start", "start with three models", start), ("soak", "soak", soak)):
        if part in chosen.parts:
            print(what, flush=True)
            _attempt(results, part, measure)


def _attempt(results: Results, part: str, measure: Callable[[], None]) -> None:
    """Let one part fail without the others."""
    try:
        measure()
    except Failed as failure:
        results.miss(part, str(failure))


if __name__ == "__main__":
    main()
