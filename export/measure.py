"""How fast a graph runs on this machine.

    ONNX file, provider, threads, batch sizes -> [process: runs for a while] x rounds -> Measurement by batch size

Each measurement is a process of its own, so that its memory is the graph's. Other work on the machine makes runs slower,
never faster: of two rounds the better counts. Run as `python -m export.measure '{"graph": ...}'`, it prints JSON.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from export.errors import MeasurementError
from export.memory import free_bytes, peak_bytes
from export.sessions import PROVIDERS, session_on
from figment.machine import usable_cpus
from figment.v1.manifest_pb2 import Measurement

BATCH_SIZES = (1, 4, 16, 64)
ROUNDS = 2
RUN_S = 0.25
"""Seconds for which each batch size is run in a round."""


@dataclass(frozen=True)
class Setting:
    """How a graph is run. labels: classes of a conditional model, 0 for others."""

    graph: str
    provider: str
    threads: int
    labels: int


def measure(files: Sequence[Path], device: str, labels: int) -> list[Measurement]:
    """Every file with one CPU thread and with all, the files in turns.

    Raises: MeasurementError, if a file cannot be run so.
    """
    threads = sorted({1, usable_cpus()}) if device == "cpu" else [1]
    settings = [Setting(str(file), PROVIDERS[device], number, labels) for number in threads for file in files]
    best: dict[tuple[str, int, int], Measurement] = {}
    for _ in range(ROUNDS):
        for setting in settings:
            for measurement in _in_a_process(setting):
                key = measurement.graph, measurement.threads, measurement.batch_size
                if key not in best or measurement.images_per_s > best[key].images_per_s:
                    best[key] = measurement
    return list(best.values())


def require_device(device: str, file: Path, labels: int) -> None:
    """Run `file` on `device` once, before the work whose end it is to measure there.

    Raises: MeasurementError, if it cannot be run so.
    """
    _in_a_process(Setting(str(file), PROVIDERS[device], 1, labels))


def images_per_s(measured: Iterable[Measurement], file: str) -> float:
    """The best rate of `file`, whatever its batch size and threads; 0 where it was not measured."""
    return max((each.images_per_s for each in measured if each.graph == file), default=0.0)


def _in_a_process(setting: Setting) -> list[Measurement]:
    # Modules come from where this process has them, and not first from the folder that it is run in.
    command = [sys.executable, "-P", "-m", "export.measure", json.dumps(asdict(setting))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if process.returncode:
        reason = process.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise MeasurementError(f"{Path(setting.graph).name}: cannot be measured with {setting.provider}: {reason[0]}")
    return [Measurement(**each) for each in json.loads(process.stdout)]


def _measurements(setting: Setting) -> Iterable[dict[str, object]]:
    session = session_on(setting.provider, setting.graph, setting.threads)
    random = np.random.default_rng(0)
    loaded_bytes, free = peak_bytes(), free_bytes()
    for previous, size in pairwise((0, *BATCH_SIZES)):
        if previous and free and (peak_bytes() - loaded_bytes) * size / previous > free:
            return  # there is no memory for so many rows
        inputs = _random_inputs(session, size, setting.labels, random)
        session.run(None, inputs)
        runs_s: list[float] = []
        started_cpu_s, until_s = time.process_time(), time.perf_counter() + RUN_S
        while time.perf_counter() < until_s or not runs_s:
            started_s = time.perf_counter()
            session.run(None, inputs)
            runs_s.append(time.perf_counter() - started_s)
        cpu_s = time.process_time() - started_cpu_s
        yield {
            "graph": Path(setting.graph).name,
            "machine": machine(),
            "provider": session.get_providers()[0],
            "threads": setting.threads,
            "batch_size": size,
            "images_per_s": size / float(np.median(runs_s)),
            "cpu_s_per_image": cpu_s / len(runs_s) / size,
            "latency_p50_s": float(np.median(runs_s)),
            "latency_p99_s": float(np.quantile(runs_s, 0.99)),
            "peak_memory_bytes": peak_bytes(),
            "runtime": onnxruntime.__version__,
        }


def _random_inputs(
    session: onnxruntime.InferenceSession, rows: int, labels: int, random: np.random.Generator
) -> dict[str, npt.NDArray[np.generic]]:
    """Noise where a graph takes floats, labels where it takes int64, images where it takes bytes."""
    inputs: dict[str, npt.NDArray[np.generic]] = {}
    for node in session.get_inputs():
        shape = (rows, *node.shape[1:])
        if node.type == "tensor(float)":
            inputs[node.name] = random.standard_normal(shape, np.float32)
        elif node.type == "tensor(int64)":
            inputs[node.name] = random.integers(0, max(labels, 1), shape)
        else:
            inputs[node.name] = random.integers(0, 256, shape, np.uint8)
    return inputs


def machine() -> str:
    """The processor by its maker's name, with the instructions that decide how fast int8 is."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    sets = [name for name in ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8") if name in flags]
    return f"{facts.get('model name', platform.machine())} ({', '.join(sets) or 'no AVX2'}), {usable_cpus()} CPUs"


if __name__ == "__main__":
    try:
        print(json.dumps(list(_measurements(Setting(**json.loads(sys.argv[1]))))))
    except MeasurementError as error:
        raise SystemExit(str(error)) from None
