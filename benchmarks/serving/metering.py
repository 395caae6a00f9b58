"""`python -m benchmarks.serving.metering`: what the server's metrics cost, on and off in turns.

    server, the same with metrics that count nothing -> rounds of turns, unary and by stream -> table of ratios

One 28x28 image a request, the workload in which they weigh most. Needs h2load.
"""

import sys
from collections import defaultdict
from contextlib import ExitStack
from statistics import quantiles

from benchmarks.serving.contenders import Streaming, Unary
from benchmarks.shared.machine import machine
from benchmarks.shared.report import table
from benchmarks.shared.servers import PROGRAM, Figment
from benchmarks.shared.turns import Contender, Span, ratios, take_turns
from benchmarks.shared.workloads import BUNDLES, GRAPHS, RESULTS, prepare

THREADS = 2
STARTS = 6
ROUNDS = 10
SPAN = Span(warm_s=0.3, window_s=1.5)
CALLS: dict[str, type[Unary] | type[Streaming]] = {"unary": Unary, "StreamGenerate": Streaming}
PROGRAMS = {"on": [PROGRAM], "off": [sys.executable, "-m", "benchmarks.serving.unmetered"]}
KEYS = ("images_per_s", "cpu_us_per_image")


def main() -> None:
    """Measure and print."""
    prepare(RESULTS, BUNDLES)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for start in range(STARTS):  # processes of the same program differ by some percent for as long as they live
        print(f"start {start + 1} of {STARTS}", flush=True)
        with ExitStack() as stack:
            servers = [
                stack.enter_context(
                    Figment(f"metrics {name}", GRAPHS["small28"], BUNDLES, THREADS, program=program).running()
                )
                for name, program in PROGRAMS.items()
            ]
            for calls, kind in CALLS.items():
                contenders: list[Contender] = [kind(server, 1) for server in servers]
                turns = take_turns(contenders, ROUNDS, SPAN)
                on, off = turns
                for key in KEYS:
                    found[calls, key] += ratios(turns, on, off, key)
    here = machine("benchmarks.serving.metering")
    print(f"\n{here.cpu}, {here.cores} cores, {here.date}, Python {here.python}; {STARTS} starts of {ROUNDS} rounds\n")
    rows = [(calls, *(_of(found[calls, key]) for key in KEYS)) for calls in CALLS]
    print("\n".join(table(("calls", "images/s, on / off", "CPU an image, on / off"), rows)))


def _of(found: list[float]) -> str:
    low, middle, high = quantiles(found, n=4)
    return f"{middle:.3f} (quartiles {low:.3f}, {high:.3f})"


if __name__ == "__main__":
    main()
