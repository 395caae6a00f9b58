"""`python -m benchmarks.export`: ways to run one trained generator on a CPU, in turns.

    run folder -> bundle, naive ONNX file, noise -> contenders -> same images? -> rounds -> tables

PyTorch eager and compiled, a naive export, OpenVINO in an environment of its own, and each variant of Figment's bundle.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.export.contenders import EAGER, Batches, Contender, Sources, contenders, figment
from benchmarks.export.report import lines
from benchmarks.export.results import SIZES, Facts, Results
from benchmarks.shared.machine import machine
from benchmarks.shared.processes import Failed, run
from benchmarks.shared.report import publish
from benchmarks.shared.servers import PROGRAM
from benchmarks.shared.turns import Span, take_turns
from benchmarks.shared.workloads import HOME, RESULTS, prepare, variants
from export.bundle import read_manifest
from export.errors import BundleError
from export.golden import golden_inputs
from figment.v1.manifest_pb2 import Manifest

WORK = HOME / "export"
"""The bundle exported here, the naive file, the noise, and images on their way to be compared."""

MODEL = "generator"
PACKAGES = ("torch", "onnx", "onnxscript")
TOLERANCE = 2
"""Grey levels by which the images of an exact contender may be off torch eager's."""

ALTERNATED = ("fp32", "int8")


def main() -> None:
    """Measure, print the tables, write them beside the figures."""
    chosen = _arguments()
    prepare(chosen.out)
    WORK.mkdir(exist_ok=True)
    here = machine("benchmarks.export", ["openvino"], PACKAGES)
    try:
        bundle = chosen.bundle or _exported(chosen.run)
        manifest = read_manifest(bundle)
        results = Results(
            machine=here,
            run=chosen.run.name,
            bundle=f"{manifest.name} {manifest.version}",
            threads=chosen.threads,
            rounds=chosen.rounds,
            seconds=chosen.seconds,
            variants=variants(manifest),
            drift=_drift(manifest),
        )
        _measure(chosen, _sources(chosen, bundle, manifest), results)
    except (BundleError, Failed) as failure:
        sys.exit(str(failure))
    publish(results, lines(results), chosen.out / "export.json", chosen.out / "export.md")


def _exported(run_folder: Path) -> Path:
    """The folder of the run's only version, published in WORK with its variants. Raises: Failed."""
    print("figment export --tune", flush=True)
    models = WORK / "models"
    shutil.rmtree(models, ignore_errors=True)
    run([PROGRAM, "export", str(run_folder), "--models", str(models), "--name", MODEL, "--tune"])
    return models / MODEL / "1"


def _sources(chosen: argparse.Namespace, bundle: Path, manifest: Manifest) -> Sources:
    """The contenders' files; those that are missing are made in WORK. Raises: Failed."""
    print("naive export", flush=True)
    naive, inputs = WORK / "naive.onnx", WORK / "inputs.npz"
    run([sys.executable, "-m", "benchmarks.export.naive", str(chosen.run), str(naive)])
    rows = max(*chosen.batches, *SIZES)
    arrays: dict[str, Any] = dict(golden_inputs(rows, manifest.noise_dim, len(manifest.labels)))
    np.savez(inputs, **arrays)
    files = {variant: bundle / file for variant, file in variants(manifest).items()}
    return Sources(chosen.run, naive, files, inputs, chosen.threads)


def _drift(manifest: Manifest) -> dict[str, dict[str, float]]:
    """By file of a lossy variant and measure: the part by which it is further from real images than fp32."""
    return {
        file: {measure: each.variant / each.fp32 - 1 for measure, each in manifest.parity[file].drift.items()}
        for variant, file in variants(manifest).items()
        if variant != "fp32"
    }


def _measure(chosen: argparse.Namespace, sources: Sources, results: Results) -> None:
    """All that takes turns. Raises: Failed, if there is no reference or a contender draws something else."""
    span = Span(0, chosen.seconds)
    with ExitStack() as stack:
        ready = []
        for contender in contenders(sources, results.missing):
            print(f"{contender.name}: warming up", flush=True)
            stack.enter_context(contender.running())
            try:
                for batch in chosen.batches:
                    contender.warm(batch)
            except Failed as failure:
                print(f"  {failure}", flush=True)
                results.missing[contender.name] = str(failure)
                continue
            ready.append(contender)
        if EAGER in results.missing:
            raise Failed(f"{EAGER} {results.missing[EAGER]}")
        differences = _differences(ready, chosen.batches)
        for batch in chosen.batches:
            print(f"batches of {batch}", flush=True)
            entries = [Batches(contender.name, contender, (batch,)) for contender in ready]
            results.turns[batch] = turns = take_turns(entries, chosen.rounds, span)
            results.missing |= {name: turn.failure for name, turn in turns.items() if turn.failure}
        for contender in ready:
            off = differences[contender.name]
            results.contenders[contender.name] = Facts(contender.forms, contender.peak_bytes, *off)
        print(f"batches of {' and '.join(map(str, SIZES))} in turns", flush=True)
        for contender in ready:
            if contender.name in map(figment, ALTERNATED):
                turns = take_turns(_alternating(contender), chosen.rounds, span)
                if all(turn.good for turn in turns.values()):
                    results.alternations[contender.name] = turns


def _alternating(contender: Contender) -> list[Batches]:
    """Its turns at each of SIZES by itself, then of SIZES in turns."""
    groups = [*((size,) for size in SIZES), SIZES]
    return [Batches(f"{contender.name}, {' and '.join(map(str, sizes))}", contender, sizes) for sizes in groups]


def _differences(ready: Sequence[Contender], batches: Sequence[int]) -> dict[str, tuple[int, float]]:
    """Largest and mean grey levels between each contender's images and torch eager's. Raises: Failed, if too large."""
    reference = {batch: ready[0].images(batch, WORK) for batch in batches}
    found = {}
    for contender in ready:
        off = [np.abs(contender.images(batch, WORK) - reference[batch]).ravel() for batch in batches]
        worst, mean = max(int(each.max()) for each in off), float(np.concatenate(off).mean())
        print(f"  {contender.name:24}off torch eager by {worst} grey levels, {mean:.4f} in the mean", flush=True)
        if contender.is_exact and worst > TOLERANCE:
            raise Failed(
                f"{contender.name}: images are off torch eager's by {worst} grey levels, allowed are {TOLERANCE}; "
                "is the bundle of this run?"
            )
        found[contender.name] = worst, mean
    return found


def _arguments() -> argparse.Namespace:
    description = "Ways to run one trained generator on a CPU."
    parser = argparse.ArgumentParser("python -m benchmarks.export", description=description)
    add = parser.add_argument
    add("--run", type=_folder, required=True, help="finished run folder that figment train wrote")
    add("--bundle", type=_folder, help="version folder of the same run; by default one is exported")
    add("--batches", type=_sizes, default=(1, 16, 64), help="batch sizes (default 1,16,64)")
    add("--threads", type=int, default=1, help="CPU threads of each contender (default 1)")
    add("--rounds", type=int, default=5, help="turns of each contender (default 5)")
    add("--seconds", type=float, default=1.0, help="seconds of a turn (default 1)")
    add("--out", type=Path, default=RESULTS, help="folder of export.json and export.md")
    return parser.parse_args()


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a folder")
    return Path(text).resolve()


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in text.split(","))
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, allowed are numbers from 1, with commas between")
    return sizes


if __name__ == "__main__":
    main()
