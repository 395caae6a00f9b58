"""`python -m benchmarks.metering`: what the server's metrics cost, on and off in turns.

    server, the same with metrics that count nothing -> rounds of turns, unary and by stream -> table of ratios

One 28x28 image a request, the workload in which they weigh most. Needs h2load.
"""

import sys
from collections import defaultdict
from contextlib import ExitStack
from statistics import quantiles

from benchmarks.closed_loop import ratios, take_turns
from benchmarks.contenders import Contender, Span, Streaming, Unary
from benchmarks.fleet import BUNDLES, LOGS
from benchmarks.machine import machine
from benchmarks.plan import HOME
from benchmarks.processes import run
from benchmarks.servers import Figment
from benchmarks.tables import head, row
from benchmarks.workloads import GRAPHS

THREADS = 2
STARTS = 6
ROUNDS = 10
SPAN = Span(warm_s=0.3, window_s=1.5)
CALLS: dict[str, type[Unary] | type[Streaming]] = {"unary": Unary, "StreamGenerate": Streaming}
OFF = [sys.executable, "-m", "benchmarks.unmetered"]


def main() -> None:
    """Measure and print."""
    HOME.mkdir(exist_ok=True)
    (HOME / ".gitignore").write_text("*\n")
    run([sys.executable, "-m", "benchmarks.graphs", str(BUNDLES)])
    found: dict[str, dict[str, list[float]]] = {calls: defaultdict(list) for calls in CALLS}
    for start in range(STARTS):  # processes of the same program differ by some percent for as long as they live
        print(f"start {start + 1} of {STARTS}", flush=True)
        for calls, ratio in _turns().items():
            for what, each in ratio.items():
                found[calls][what] += each
    here = machine([], "benchmarks.metering")
    print(f"\n{here.cpu}, {here.cores} cores, {here.date}, Python {here.python}; {STARTS} starts of {ROUNDS} rounds\n")
    rows = [row(calls, _of(ratio["images_per_s"]), _of(ratio["cpu_us_per_image"])) for calls, ratio in found.items()]
    print("\n".join([*head("calls", "images/s, on / off", "CPU an image, on / off"), *rows]))


def _turns() -> dict[str, dict[str, list[float]]]:
    """On over off round by round, by calls, of one pair of servers."""
    graph = GRAPHS["small28"]
    servers = [
        Figment("metrics on", graph, BUNDLES, LOGS, THREADS),
        Figment("metrics off", graph, BUNDLES, LOGS, THREADS, program=OFF),
    ]
    found = {}
    with ExitStack() as stack:
        for server in servers:
            server.start()
            stack.callback(server.stop)
        for calls, kind in CALLS.items():
            contenders: list[Contender] = [kind(server, 1) for server in servers]
            on, off = (contender.name for contender in contenders)
            found[calls] = ratios(take_turns(contenders, ROUNDS, SPAN), on, off)
    return found


def _of(found: list[float]) -> str:
    low, middle, high = quantiles(found, n=4)
    return f"{middle:.3f} (quartiles {low:.3f}, {high:.3f})"


if __name__ == "__main__":
    main()
