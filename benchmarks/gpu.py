"""`python -m benchmarks.gpu`: what the server makes of a GPU; everything in one call of some minutes, a table last.

    graphs -> raw: every setting of onnxruntime, PyTorch -> onnxruntime from and to the host -> served by streams, 1 to N
    gateways -> mixed sizes

Needs no load generator but grpcio's client, in processes of their own. `--device cpu` tries the script where there is no
GPU; such figures mean nothing.
"""

import argparse
import concurrent.futures
import json
import random
import shlex
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grpc

from benchmarks import gpu_raw
from benchmarks.generators import variants
from benchmarks.gpu_graphs import Setting, example, open_session
from benchmarks.machine import machine
from benchmarks.plan import HOME
from benchmarks.processes import CommandFailed, StartFailed, run
from benchmarks.servers import Figment, onnx_file
from benchmarks.tables import head, row
from benchmarks.wires import MAX_REPLY_BYTES, FigmentWire
from benchmarks.workloads import GRAPHS
from export.bundle import read_manifest
from figment.v1.image_service_pb2 import StreamGenerateResponse
from server.errors import DeviceMissing
from server.runtime.devices import devices

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STREAM_IMAGES = 64
IN_FLIGHT = 16
"""Requests of STREAM_IMAGES images that a client has open on its stream."""

RAW_VARIANTS = ("fp32", "fp16")
"""int8 graphs are for CPUs."""

MIXED_REQUESTS = 600
MIXED_WARM_REQUESTS = 100


@dataclass
class Figures:
    """What was measured: images/s, but for the seconds of mixed requests."""

    machine: str
    raw: gpu_raw.Raw
    alone: dict[int, float] = field(default_factory=dict)
    served: dict[str, float] = field(default_factory=dict)
    nothing: dict[str, float] = field(default_factory=dict)
    mixed_median_s: dict[int, float] = field(default_factory=dict)
    mixed_worst: float = 0.0
    """The slowest request by the median of its size."""

    missing: dict[str, str] = field(default_factory=dict)
    """Servers that did not start, or failed: the reason."""

    def save(self, path: Path) -> None:
        """Write JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def alone(file: Path, device: str, seconds: float, figures: Figures) -> None:
    """Run the graph without a server, each batch size again and again, noise and images in the host's memory."""
    setting = Setting(cuda_graphs=False, prefer_nhwc=True, is_fixed=False)
    for size in SIZES:
        session = open_session(file, device, setting, size)
        inputs = example(session, size)
        session.run(None, inputs)
        images, started_s = 0, time.perf_counter()
        while time.perf_counter() - started_s < seconds:
            session.run(None, inputs)
            images += size
        figures.alone[size] = images / (time.perf_counter() - started_s)


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
    lines = [figures.machine, "", *gpu_raw.table(figures.raw), "", *head("dcgan64", "images/s", "GB/s")]
    rates = {
        f"onnxruntime alone, batches of {size}, from and to the host": rate for size, rate in figures.alone.items()
    }
    rates |= {f"nothing computed, {gateways}": rate for gateways, rate in figures.nothing.items()}
    rates |= {f"served, {gateways}": rate for gateways, rate in figures.served.items()}
    lines += [row(what, f"{rate:.0f}", f"{rate * image_bytes / 1e9:.3f}") for what, rate in rates.items()]
    if figures.served and figures.nothing:
        bound = min(max(figures.alone.values()), max(figures.nothing.values()))
        best = max(figures.served.values())
        lines += ["", f"served / the smaller of alone and nothing: {best / bound:.2f} (goal 0.8)"]
    if figures.mixed_median_s:
        lines.append(
            f"slowest of {MIXED_REQUESTS} mixed requests / median of its size: {figures.mixed_worst:.1f} (goal 3)"
        )
        medians = ", ".join(f"{size}: {1000 * median:.2f}" for size, median in figures.mixed_median_s.items())
        lines.append(f"medians of mixed requests, ms: {medians}")
    return "\n".join([*lines, *(f"- {name}: {reason}" for name, reason in figures.missing.items())])


def _described() -> str:
    """Date, processors, versions and command."""
    here = machine((), "benchmarks.gpu", ("torch",))
    try:
        gpu = run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]).strip()
    except CommandFailed as failure:
        gpu = f"no GPU ({failure})"
    packages = ", ".join(f"{name} {version}" for name, version in here.packages.items())
    return f"{here.date}; {gpu}; {here.cpu}, {here.cores} cores; {packages}; commit {here.commit}; `{here.command}`"


def _raw(chosen: argparse.Namespace, device: str) -> gpu_raw.Raw:
    """Of the bundle that was given, or of dcgan64."""
    files = {"fp32": onnx_file(chosen.bundles, GRAPHS["dcgan64"])}
    if chosen.bundle_version:
        found = variants(read_manifest(chosen.bundle_version))
        files = {variant: chosen.bundle_version / found[variant] for variant in RAW_VARIANTS if variant in found}
    with_torch = not chosen.bundle_version or bool(chosen.run)
    raw = gpu_raw.measure(files, chosen.run, with_torch, device, chosen.seconds / 10, chosen.raw_budget)
    if not with_torch:
        raw.missing["torch"] = "--bundle-version without --run, the folder of the bundle's run"
    return raw


def _serve(chosen: argparse.Namespace, gateways: str, figures: Figures) -> None:
    """Streams to a server of dcgan64 and to one that computes nothing; mixed requests with one gateway."""
    name = f"{gateways} gateways"
    for model, device, found in (("nothing64", "cpu", figures.nothing), ("dcgan64", chosen.device, figures.served)):
        options = ["--gateways", gateways, "--engines", "shared", "--device", device]
        options += ["--batch.max-size", str(chosen.max_size), *shlex.split(chosen.options)]
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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description="Figment on a GPU.")
    parser.add_argument("--device", default="cuda", help="cpu, cuda or cuda:N")
    parser.add_argument("--bundles", type=Path, default=HOME / "bundles", help="folder of the graphs, made if needed")
    parser.add_argument("--bundle-version", type=Path, help="version folder whose fp32 and fp16 files are run raw")
    parser.add_argument("--run", type=Path, help="run folder of that bundle, for PyTorch")
    parser.add_argument("--raw-budget", type=float, default=240.0, help="seconds for everything that is run raw")
    parser.add_argument("--gateways", default="1,2,4,8", help="numbers of gateways with commas between, or none")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of streams; a tenth of it for a raw figure")
    parser.add_argument("--max-size", type=int, default=64, help="largest batch of the server")
    parser.add_argument("--options", default="", help="further options of figment serve, in one argument")
    parser.add_argument("--out", type=Path, default=HOME / "results")
    return parser.parse_args()


def main() -> None:
    """Measure, print the table, write it and the JSON."""
    chosen = _arguments()
    chosen.out.mkdir(parents=True, exist_ok=True)
    try:
        (device,) = devices(chosen.device)
    except DeviceMissing as missing:
        sys.exit(str(missing))
    graph = GRAPHS["dcgan64"]
    run([sys.executable, "-m", "benchmarks.graphs", str(chosen.bundles)])
    figures = Figures(_described(), _raw(chosen, device))
    figures.save(chosen.out / "gpu.json")
    alone(onnx_file(chosen.bundles, graph), device, chosen.seconds / 10, figures)
    for gateways in filter(None, chosen.gateways.split(",")):
        try:
            _serve(chosen, gateways, figures)
        except (StartFailed, RuntimeError, grpc.RpcError) as failure:
            figures.missing[f"{gateways} gateways"] = str(failure)
        figures.save(chosen.out / "gpu.json")
    text = table(figures, graph.image_bytes)
    (chosen.out / "gpu.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
