"""`python -m benchmarks.export`: ways to run one trained generator on a CPU, in turns.

    run folder -> bundle, naive ONNX file, noise -> contenders -> same images? -> rounds -> tables

PyTorch eager and compiled, a naive export, OpenVINO in an environment of its own, and each variant of Figment's bundle.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.closed_loop import take_turns
from benchmarks.contenders import Span
from benchmarks.export import alternation, preparation, report
from benchmarks.export.alternation import SIZES
from benchmarks.export.contender import Batches, Contender
from benchmarks.export.line_up import EAGER, Sources, contenders, figment
from benchmarks.export.results import Facts, Results
from benchmarks.generators import variants
from benchmarks.machine import machine
from benchmarks.plan import HOME
from benchmarks.processes import CommandFailed, StartFailed
from export.bundle import read_manifest
from export.errors import BundleError

WORK = HOME / "export"
"""The bundle exported here, the naive file, the noise, and images on their way to be compared."""

PACKAGES = ("torch", "onnx", "onnxscript")
TOLERANCE = 2
"""Grey levels by which the images of an exact contender may be off torch eager's."""

ALTERNATED = ("fp32", "int8")


class ImagesDiffer(Exception):
    """A contender does not draw what the trained networks draw, so its speed means nothing."""


def main() -> None:
    """Measure, print the tables, write them beside the figures."""
    chosen = _arguments()
    WORK.mkdir(parents=True, exist_ok=True)
    (HOME / ".gitignore").write_text("*\n")
    chosen.out.mkdir(parents=True, exist_ok=True)
    here = machine(["openvino"], "benchmarks.export", PACKAGES)
    try:
        bundle = chosen.bundle or preparation.export(chosen.run, WORK)
        manifest = read_manifest(bundle)
        rows = max(*chosen.batches, *SIZES)
        sources = preparation.sources(chosen.run, bundle, manifest, WORK, rows, chosen.threads)
        results = Results(
            machine=here,
            run=chosen.run.name,
            bundle=f"{manifest.name} {manifest.version}",
            threads=chosen.threads,
            rounds=chosen.rounds,
            seconds=chosen.seconds,
            variants=variants(manifest),
            drift=preparation.drift(manifest),
        )
        _measure(chosen, sources, results)
    except (BundleError, CommandFailed, ImagesDiffer, StartFailed) as failure:
        sys.exit(str(failure))
    results.save(chosen.out / "export.json")
    tables = report.markdown(results)
    (chosen.out / "export.md").write_text(tables)
    print(f"\n{tables}\nwritten to {chosen.out}", flush=True)


def _measure(chosen: argparse.Namespace, sources: Sources, results: Results) -> None:
    """All that takes turns. Raises: ImagesDiffer, StartFailed if there is no reference."""
    with ExitStack() as stack:
        ready = []
        for contender in contenders(sources, results.missing):
            print(f"{contender.name}: warming up", flush=True)
            stack.enter_context(contender)
            try:
                for batch in chosen.batches:
                    contender.warm(batch)
            except StartFailed as failure:
                print(f"  {failure}", flush=True)
                results.missing[contender.name] = str(failure)
                continue
            ready.append(contender)
        if EAGER in results.missing:
            raise StartFailed(f"{EAGER} {results.missing[EAGER]}")
        differences = _differences(ready, chosen.batches)
        for batch in chosen.batches:
            print(f"batches of {batch}", flush=True)
            entries = [Batches(contender.name, contender, [batch]) for contender in ready]
            results.turns[batch] = turns = take_turns(entries, chosen.rounds, Span(0, chosen.seconds))
            results.missing |= {name: turn.failure for name, turn in turns.items() if turn.failure}
        for contender in ready:
            forms = {batch: contender.forms[batch] for batch in chosen.batches}
            results.contenders[contender.name] = Facts(forms, contender.peak_bytes, *differences[contender.name])
        print(f"batches of {' and '.join(map(str, SIZES))} in turns", flush=True)
        in_turns = [contender for contender in ready if contender.name in map(figment, ALTERNATED)]
        results.alternations = alternation.measure(in_turns, chosen.rounds, chosen.seconds)


def _differences(ready: Sequence[Contender], batches: Sequence[int]) -> dict[str, tuple[int, float]]:
    """Largest and mean grey levels between each contender's images and torch eager's. Raises: ImagesDiffer, StartFailed."""
    reference = {batch: ready[0].images(batch, WORK).astype(np.int16) for batch in batches}
    found = {}
    for contender in ready:
        off = [np.abs(contender.images(batch, WORK) - reference[batch]).ravel() for batch in batches]
        worst, mean = max(int(each.max()) for each in off), float(np.concatenate(off).mean())
        print(f"  {contender.name:24}off torch eager by {worst} grey levels, {mean:.4f} in the mean", flush=True)
        if contender.is_exact and worst > TOLERANCE:
            raise ImagesDiffer(
                f"{contender.name}: images are off torch eager's by {worst} grey levels, allowed are {TOLERANCE}; "
                "is the bundle of this run?"
            )
        found[contender.name] = worst, mean
    return found


def _arguments() -> argparse.Namespace:
    description = "Ways to run one trained generator on a CPU."
    parser = argparse.ArgumentParser("python -m benchmarks.export", description=description)
    parser.add_argument("--run", type=_folder, required=True, help="finished run folder that figment train wrote")
    parser.add_argument("--bundle", type=_folder, help="version folder of the same run; by default one is exported")
    parser.add_argument("--batches", type=_sizes, default=(1, 16, 64), help="batch sizes (default 1,16,64)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each contender (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (default 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds of a turn (default 1)")
    parser.add_argument("--out", type=Path, default=HOME / "results", help="folder of export.json and export.md")
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
