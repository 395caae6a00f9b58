"""What is made before anything is measured: a bundle if none is given, a naive export, noise.

run folder -> figment export -> bundle        run folder -> naive.onnx        manifest -> inputs.npz
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.export.line_up import Sources
from benchmarks.generators import variants
from benchmarks.processes import run
from export.golden import golden_inputs
from figment.v1.manifest_pb2 import Manifest

MODEL = "generator"
"""Name of the model exported here."""


def export(run_folder: Path, work: Path) -> Path:
    """Publish the run with its variants; returns the version's folder in `work`. Raises: CommandFailed."""
    print("figment export --tune", flush=True)
    models = work / "models"
    shutil.rmtree(models, ignore_errors=True)
    program = str(Path(sys.executable).parent / "figment")
    run([program, "export", str(run_folder), "--models", str(models), "--name", MODEL, "--tune"])
    return models / MODEL / "1"


def sources(run_folder: Path, bundle: Path, manifest: Manifest, work: Path, rows: int, threads: int) -> Sources:
    """Files of the contenders, those that are missing made in `work`; noise of `rows` images. Raises: CommandFailed."""
    print("naive export", flush=True)
    naive = work / "naive.onnx"
    run([sys.executable, "-m", "benchmarks.export.naive", str(run_folder), str(naive)])
    inputs = work / "inputs.npz"
    arrays: dict[str, Any] = dict(golden_inputs(rows, manifest.noise_dim, len(manifest.labels)))
    np.savez(inputs, **arrays)
    files = {variant: bundle / file for variant, file in variants(manifest).items()}
    return Sources(run_folder, naive, files, inputs, threads)


def drift(manifest: Manifest) -> dict[str, dict[str, float]]:
    """By file of a lossy variant and measure: the part by which it is further from real images than fp32."""
    return {
        file: {measure: each.variant / each.fp32 - 1 for measure, each in manifest.parity[file].drift.items()}
        for variant, file in variants(manifest).items()
        if variant != "fp32"
    }
