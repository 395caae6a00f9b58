"""The graph without any server: what onnxruntime alone does with the same threads.

    graph, batch, callers, threads -> run in a loop -> images a second, CPU seconds, seconds of a run

Run as `python -m benchmarks.bare '{"graph": ...}'`, a process of its own that prints JSON.
"""

import json
import sys
import threading
import time
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
import onnxruntime

from benchmarks.processes import machine_busy_s

BATCHES = (1, 4, 8, 16, 32, 64)
SEARCH_S = 0.3
WARM_S = 0.3


@dataclass(frozen=True)
class Shape:
    """How the graph is run: `callers` threads at once, each run on `threads` threads."""

    batch: int
    callers: int
    threads: int


@dataclass(frozen=True)
class Rate:
    """What came of it."""

    images: int
    seconds: float
    cpu_s: float
    run_p50_s: float
    others_cpu_s: float
    """What everything else on the machine took meanwhile."""


def shapes(threads: int) -> list[Shape]:
    """Every way to use `threads` threads that is worth trying: whole in each run, or one a run."""
    layouts = {(1, threads), (threads, 1)}
    return [Shape(batch, callers, each) for batch, (callers, each) in product(BATCHES, sorted(layouts))]


def open_session(graph: str, threads: int) -> onnxruntime.InferenceSession:
    """A session on the CPU, with spinning off as the servers have it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def measure(graph: str, shape: Shape, seconds: float) -> Rate:
    """Run `graph` for `seconds` in the given way."""
    session = open_session(graph, shape.threads)
    noise_dim = session.get_inputs()[0].shape[1]
    noise = np.random.default_rng(0).standard_normal((shape.batch, noise_dim), np.float32)
    runs_s: list[float] = []

    def work(until_s: float) -> None:
        while (started_s := time.perf_counter()) < until_s:
            session.run(None, {"noise": noise})
            runs_s.append(time.perf_counter() - started_s)

    def work_all(seconds: float) -> None:
        until_s = time.perf_counter() + seconds
        callers = [threading.Thread(target=work, args=(until_s,)) for _ in range(shape.callers)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

    work_all(min(WARM_S, seconds))
    runs_s.clear()
    busy_s, started_s, started_cpu_s = machine_busy_s(), time.perf_counter(), time.process_time()
    work_all(seconds)
    stopped_s, cpu_s = time.perf_counter(), time.process_time() - started_cpu_s
    return Rate(
        images=len(runs_s) * shape.batch,
        seconds=stopped_s - started_s,
        cpu_s=cpu_s,
        run_p50_s=float(np.median(runs_s)),
        others_cpu_s=machine_busy_s() - busy_s - cpu_s,
    )


def best(graph: str, threads: int) -> Shape:
    """The way with the most images a second."""

    def images_per_s(shape: Shape) -> float:
        rate = measure(graph, shape, SEARCH_S)
        return rate.images / rate.seconds

    return max(shapes(threads), key=images_per_s)


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    if "shape" in order:
        print(json.dumps(asdict(measure(order["graph"], Shape(**order["shape"]), order["seconds"]))))
    else:
        print(json.dumps(asdict(best(order["graph"], order["threads"]))))
