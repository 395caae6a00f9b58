"""`python -m benchmarks.gpu`: what the server makes of a GPU; everything in one call of some minutes, a table last.

    bundles -> onnxruntime alone by batch size, fixed and in turns -> served by streams, 1 to N gateways -> mixed sizes

Needs no load generator but grpcio's client, in processes of their own. `--device cpu` tries the script where there is no
GPU; such figures mean nothing.
"""

import argparse
import concurrent.futures
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grpc
import numpy as np
import onnxruntime

from benchmarks.machine import machine
from benchmarks.plan import HOME
from benchmarks.processes import CommandFailed, run
from benchmarks.servers import Figment, onnx_file
from benchmarks.wires import MAX_REPLY_BYTES, FigmentWire
from benchmarks.workloads import GRAPHS
from figment.v1.image_service_pb2 import StreamGenerateResponse
from server.engine import CPU, CUDA

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STREAM_IMAGES = 64
IN_FLIGHT = 16
"""Requests of STREAM_IMAGES images that a client has open on its stream."""

MIXED_REQUESTS = 600
MIXED_WARM_REQUESTS = 100


@dataclass
class Figures:
    """What was measured: images/s, but for the seconds of mixed requests."""

    machine: str
    alone: dict[int, float] = field(default_factory=dict)
    alone_in_turns: float = 0.0
    alone_same_sizes: float = 0.0
    served: dict[str, float] = field(default_factory=dict)
    nothing: dict[str, float] = field(default_factory=dict)
    mixed_median_s: dict[int, float] = field(default_factory=dict)
    mixed_worst: float = 0.0
    """The slowest request by the median of its size."""


def alone(file: Path, device: str, seconds: float, figures: Figures) -> None:
    """Run the graph without a server: each batch size again and again, then all of them in turns."""
    providers = [CPU] if device == "cpu" else [(CUDA, {"cudnn_conv_algo_search": "HEURISTIC"})]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    sessions = {size: onnxruntime.InferenceSession(file, options, providers=providers) for size in SIZES}
    noise_dim = sessions[1].get_inputs()[0].shape[1]
    noise = np.random.default_rng(0).standard_normal((SIZES[-1], noise_dim), np.float32)

    def rate(sizes: tuple[int, ...], one_session: bool) -> float:
        for size in sizes:
            sessions[1 if one_session else size].run(None, {"noise": noise[:size]})
        images, started_s = 0, time.perf_counter()
        while time.perf_counter() - started_s < seconds:
            for size in sizes:
                sessions[1 if one_session else size].run(None, {"noise": noise[:size]})
                images += size
        return images / (time.perf_counter() - started_s)

    for size in SIZES:
        figures.alone[size] = rate((size,), one_session=False)
    figures.alone_in_turns = rate((16, 64), one_session=True)
    figures.alone_same_sizes = rate((16, 64), one_session=False)


def stream(port: int, model: str, seconds: float) -> int:
    """One client: requests of STREAM_IMAGES images on one stream for a while; returns the images that came."""
    wire = FigmentWire(model)
    may_send = threading.Semaphore(IN_FLIGHT)

    def requests() -> Iterator[bytes]:
        number, until_s = 0, time.monotonic() + seconds
        while may_send.acquire(timeout=max(0.0, until_s - time.monotonic())) and time.monotonic() < until_s:
            number += 1
            yield wire.stream_request(STREAM_IMAGES, number)

    images = 0
    options = [("grpc.max_receive_message_length", MAX_REPLY_BYTES)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        for reply in channel.stream_stream(wire.stream_path, bytes, StreamGenerateResponse.FromString)(requests()):
            if reply.HasField("error"):
                raise RuntimeError(f"the server answered: {reply.error.message}")
            images += reply.response.images.count
            if reply.last:
                may_send.release()
    return images


def streams(port: int, model: str, clients: int, seconds: float) -> float:
    """Images/s of several clients, each a process."""
    with ProcessPoolExecutor(clients) as pool:
        list(pool.map(time.sleep, [0.01] * clients))  # the processes are there before the clock starts
        started_s = time.perf_counter()
        calls = [pool.submit(stream, port, model, seconds) for _ in range(clients)]
        images = sum(call.result() for call in concurrent.futures.as_completed(calls))
        return images / (time.perf_counter() - started_s)


def mixed(port: int, model: str, figures: Figures) -> None:
    """One client that asks for 1 to 64 images at random, one request after the other."""
    wire, chance = FigmentWire(model), random.Random(0)  # noqa: S311
    seconds: dict[int, list[float]] = {size: [] for size in SIZES if size <= STREAM_IMAGES}
    options = [("grpc.max_receive_message_length", MAX_REPLY_BYTES)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        method = channel.unary_unary(wire.path, bytes, bytes)
        for number in range(MIXED_REQUESTS):
            size = chance.choice(list(seconds))
            request, started_s = wire.request(size), time.perf_counter()
            method(request)
            if number >= MIXED_WARM_REQUESTS:
                seconds[size].append(time.perf_counter() - started_s)
    figures.mixed_median_s = {size: statistics.median(of_size) for size, of_size in seconds.items()}
    figures.mixed_worst = max(max(seconds[size]) / median for size, median in figures.mixed_median_s.items())


def table(figures: Figures, image_bytes: int) -> str:
    """All figures as markdown."""
    lines = [figures.machine, "", "| what | images/s | GB/s |", "|---|---|---|"]
    rates = {f"onnxruntime alone, batches of {size}": rate for size, rate in figures.alone.items()}
    rates["onnxruntime alone, 16 and 64 in turns, one session"] = figures.alone_in_turns
    rates["onnxruntime alone, 16 and 64 in turns, a session each"] = figures.alone_same_sizes
    rates |= {f"nothing computed, {gateways}": rate for gateways, rate in figures.nothing.items()}
    rates |= {f"served, {gateways}": rate for gateways, rate in figures.served.items()}
    lines += [f"| {what} | {rate:.0f} | {rate * image_bytes / 1e9:.3f} |" for what, rate in rates.items()]
    best = max(figures.served.values())
    bound = min(max(figures.alone.values()), max(figures.nothing.values()))
    lines += ["", f"served / the smaller of alone and nothing: {best / bound:.2f} (goal 0.8)"]
    lines += [f"slowest of {MIXED_REQUESTS} mixed requests / median of its size: {figures.mixed_worst:.1f} (goal 3)"]
    medians = ", ".join(f"{size}: {1000 * median:.2f}" for size, median in figures.mixed_median_s.items())
    return "\n".join([*lines, f"medians of mixed requests, ms: {medians}"])


def _described() -> str:
    """Date, processors, versions and command."""
    here = machine(())
    try:
        gpu = run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]).strip()
    except CommandFailed as failure:
        gpu = f"no GPU ({failure})"
    packages = ", ".join(f"{name} {version}" for name, version in here.packages.items())
    command = " ".join(["python -m benchmarks.gpu", *sys.argv[1:]])
    return f"{here.date}; {gpu}; {here.cpu}, {here.cores} cores; {packages}; commit {here.commit}; `{command}`"


def main() -> None:
    """Measure, print the table, write it and the JSON."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description="Figment on a GPU.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--bundles", type=Path, default=HOME / "bundles", help="what benchmarks.graphs wrote")
    parser.add_argument("--gateways", default="1,2,4,8")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of each measurement")
    parser.add_argument("--max-size", type=int, default=64, help="largest batch")
    parser.add_argument("--out", type=Path, default=HOME / "results")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    figures = Figures(_described())
    graph = GRAPHS["dcgan64"]
    alone(onnx_file(chosen.bundles, graph), chosen.device, chosen.seconds / 5, figures)
    for gateways in chosen.gateways.split(","):
        name = f"{gateways} gateways"
        for model, device, found in (
            ("nothing64", "cpu", figures.nothing),
            ("dcgan64", chosen.device, figures.served),
        ):
            options = [
                "--gateways",
                gateways,
                "--engines",
                "shared",
                "--device",
                device,
                "--batch.max-size",
                str(chosen.max_size),
            ]
            server = Figment(f"gpu-{model}", GRAPHS[model], chosen.bundles, chosen.out, 1, options)
            server.start()
            try:
                streams(server.port, model, chosen.clients, chosen.seconds / 5)
                found[name] = streams(server.port, model, chosen.clients, chosen.seconds)
                if model == "dcgan64" and gateways == "1":
                    mixed(server.port, model, figures)
            finally:
                server.stop()
            print(f"{name}, {model}: {found[name]:.0f} images/s", file=sys.stderr, flush=True)
    (chosen.out / "gpu.json").write_text(json.dumps(asdict(figures), indent=1))
    text = table(figures, graph.image_bytes)
    (chosen.out / "gpu.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
