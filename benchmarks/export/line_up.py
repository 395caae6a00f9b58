"""Who takes part: PyTorch, a naive export, OpenVINO, and each variant of the bundle's generator.

run folder, naive ONNX file, bundle -> [Contender]
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import SetUpFailed, environment
from benchmarks.export.contender import Contender
from benchmarks.plan import HOME

EAGER, COMPILED, NAIVE = "torch eager", "torch.compile", "naive export"
OPENVINO, OPENVINO_INT8 = "OpenVINO, naive export", "OpenVINO, figment int8"


@dataclass(frozen=True)
class Sources:
    """What the contenders draw with: forms of one trained generator.

    run       finished run folder
    naive     ONNX file of the naive export
    variants  ONNX files of the bundle by variant
    inputs    .npz file of noise [, label], as many as the largest batch
    """

    run: Path
    naive: Path
    variants: dict[str, Path]
    inputs: Path
    threads: int


def figment(variant: str) -> str:
    """Name of the contender that is a variant of the bundle's generator."""
    return f"figment {variant}"


def contenders(sources: Sources, missing: dict[str, str]) -> Iterator[Contender]:
    """All that can be set up; the reasons of the others go to `missing`."""
    torch, onnx = _here("torch_drawer"), _here("onnx_drawer")
    run = str(sources.run)
    yield _contender(EAGER, torch, sources, run=run, is_compiled=False)
    yield _contender(COMPILED, torch, sources, run=run, is_compiled=True)
    yield _contender(NAIVE, onnx, sources, graph=str(sources.naive))
    files = {OPENVINO: sources.naive}
    if "int8" in sources.variants:
        files[OPENVINO_INT8] = sources.variants["int8"]
    try:
        openvino = [str(environment("openvino", HOME / "environments")), "-m", "benchmarks.peers.openvino.draw"]
    except SetUpFailed as failure:
        missing |= dict.fromkeys(files, f"cannot be set up: {failure}")
    else:
        for name, file in files.items():
            yield _contender(name, openvino, sources, is_exact=name == OPENVINO, graph=str(file))
    for variant, file in sources.variants.items():
        yield _contender(figment(variant), onnx, sources, is_exact=variant == "fp32", graph=str(file))


def _here(module: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.export.{module}"]


def _contender(
    name: str, command: list[str], sources: Sources, *, is_exact: bool = True, **settings: str | bool
) -> Contender:
    given = {"inputs": str(sources.inputs), "threads": sources.threads, **settings}
    log = HOME / "logs" / f"export-{name.replace(', ', '-').replace(' ', '-')}.log"
    return Contender(name, [*command, json.dumps(given)], log, is_exact=is_exact)
