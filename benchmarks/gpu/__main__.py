"""`python -m benchmarks.gpu`: what the server makes of a GPU; everything in one call of some minutes, a table last.

    graphs -> raw: every form of onnxruntime, PyTorch -> onnxruntime from and to the host -> served by streams, 1 to N
    gateways -> mixed sizes

Needs no load generator but grpcio's client, in processes of their own. `--device cpu` tries the script where there is no
GPU; such figures mean nothing.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import grpc

from benchmarks.gpu import onnx_form, raw
from benchmarks.gpu.clients import MIXED_REQUESTS, mixed, streams
from benchmarks.shared.machine import machine
from benchmarks.shared.processes import Failed, run
from benchmarks.shared.report import publish, save, table, versions
from benchmarks.shared.servers import Figment
from benchmarks.shared.workloads import BUNDLES, GRAPHS, RESULTS, onnx_file, prepare, variants
from export.bundle import read_manifest
from server.errors import DeviceMissing
from server.runtime.devices import devices

GRAPH = GRAPHS["dcgan64"]
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
RAW_VARIANTS = ("fp32", "fp16")
"""int8 graphs are for CPUs."""


@dataclass
class Figures:
    """What was measured: images/s, but for the seconds of mixed requests.

    mixed_worst  the slowest request by the median of its size
    missing      servers that did not start, or failed: the reason
    """

    machine: str
    raw: raw.Raw
    alone: dict[int, float] = field(default_factory=dict)
    served: dict[str, float] = field(default_factory=dict)
    nothing: dict[str, float] = field(default_factory=dict)
    mixed_median_s: dict[int, float] = field(default_factory=dict)
    mixed_worst: float = 0.0
    missing: dict[str, str] = field(default_factory=dict)


def main() -> None:
    """Measure, print the table, write it and the JSON."""
    chosen = _arguments()
    try:
        (device,) = devices(chosen.device)
    except DeviceMissing as missing:
        sys.exit(str(missing))
    prepare(chosen.out, chosen.bundles)
    figures = Figures(_described(), _raw(chosen, device))
    save(figures, chosen.out / "gpu.json")
    figures.alone = dict(onnx_form.alone(onnx_file(chosen.bundles, GRAPH), device, SIZES, chosen.seconds / 10))
    for gateways in filter(None, chosen.gateways.split(",")):
        try:
            _serve(chosen, gateways, figures)
        except (Failed, RuntimeError, grpc.RpcError) as failure:
            figures.missing[f"{gateways} gateways"] = str(failure)
        save(figures, chosen.out / "gpu.json")
    publish(figures, lines(figures), chosen.out / "gpu.json", chosen.out / "gpu.md")


def lines(figures: Figures) -> Iterator[str]:
    """All figures as markdown."""
    yield from (figures.machine, "", *raw.lines(figures.raw), "")
    rates = {
        f"onnxruntime alone, batches of {size}, from and to the host": rate for size, rate in figures.alone.items()
    }
    rates |= {f"nothing computed, {gateways}": rate for gateways, rate in figures.nothing.items()}
    rates |= {f"served, {gateways}": rate for gateways, rate in figures.served.items()}
    rows = [(what, f"{rate:.0f}", f"{rate * GRAPH.image_bytes / 1e9:.3f}") for what, rate in rates.items()]
    yield from table(("dcgan64", "images/s", "GB/s"), rows)
    if figures.served and figures.nothing:
        bound = min(max(figures.alone.values()), max(figures.nothing.values()))
        best = max(figures.served.values())
        yield f"\nserved / the smaller of alone and nothing: {best / bound:.2f} (goal 0.8)"
    if figures.mixed_median_s:
        yield f"slowest of {MIXED_REQUESTS} mixed requests / median of its size: {figures.mixed_worst:.1f} (goal 3)"
        medians = ", ".join(f"{size}: {1000 * each_s:.2f}" for size, each_s in figures.mixed_median_s.items())
        yield f"medians of mixed requests, ms: {medians}"
    yield from (f"- {name}: {reason}" for name, reason in figures.missing.items())


def _described() -> str:
    """Date, processors, versions and command."""
    here = machine("benchmarks.gpu", packages=("torch",))
    try:
        gpu = run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]).strip()
    except Failed as failure:
        gpu = f"no GPU ({failure})"
    packages = versions(here.packages)
    return f"{here.date}; {gpu}; {here.cpu}, {here.cores} cores; {packages}; commit {here.commit}; `{here.command}`"


def _raw(chosen: argparse.Namespace, device: str) -> raw.Raw:
    """Of the bundle that was given, or of dcgan64."""
    files = {"fp32": onnx_file(chosen.bundles, GRAPH)}
    if chosen.bundle_version:
        by_variant = variants(read_manifest(chosen.bundle_version))
        files = {
            variant: chosen.bundle_version / by_variant[variant] for variant in RAW_VARIANTS if variant in by_variant
        }
    with_torch = not chosen.bundle_version or bool(chosen.run)
    found = raw.measure(files, chosen.run, with_torch, device, chosen.seconds / 10, chosen.raw_budget)
    if not with_torch:
        found.missing["torch"] = "--bundle-version without --run, the folder of the bundle's run"
    return found


def _serve(chosen: argparse.Namespace, gateways: str, figures: Figures) -> None:
    """Streams to a server of dcgan64 and to one that computes nothing; mixed requests with one gateway."""
    name = f"{gateways} gateways"
    for model, device, found in (("nothing64", "cpu", figures.nothing), ("dcgan64", chosen.device, figures.served)):
        options = ["--gateways", gateways, "--engines", "shared", "--device", device]
        options += ["--batch.max-size", str(chosen.max_size), *shlex.split(chosen.options)]
        with Figment(f"gpu-{model}", GRAPHS[model], chosen.bundles, 1, options).running() as server:
            streams(server.port, model, chosen.clients, chosen.seconds / 5)
            found[name] = streams(server.port, model, chosen.clients, chosen.seconds)
            if model == "dcgan64" and gateways == "1":
                seconds = mixed(server.port, model)
                figures.mixed_median_s = {size: median(of_size) for size, of_size in seconds.items()}
                worst = (max(seconds[size]) / each_s for size, each_s in figures.mixed_median_s.items())
                figures.mixed_worst = max(worst)
        print(f"{name}, {model}: {found[name]:.0f} images/s", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description="Figment on a GPU.")
    add = parser.add_argument
    add("--device", default="cuda", help="cpu, cuda or cuda:N")
    add("--bundles", type=Path, default=BUNDLES, help="folder of the graphs, made if needed")
    add("--bundle-version", type=Path, help="version folder whose fp32 and fp16 files are run raw")
    add("--run", type=Path, help="run folder of that bundle, for PyTorch")
    add("--raw-budget", type=float, default=240.0, help="seconds for everything that is run raw")
    add("--gateways", default="1,2,4,8", help="numbers of gateways with commas between, or none")
    add("--clients", type=int, default=6)
    add("--seconds", type=float, default=5.0, help="seconds of streams; a tenth of it for a raw figure")
    add("--max-size", type=int, default=64, help="largest batch of the server")
    add("--options", default="", help="further options of figment serve, in one argument")
    add("--out", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
