"""Where and with what was measured, for figures mean nothing without it.

    /proc, package metadata, requirements -> Machine

Asked once, before the first measurement.
"""

import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from benchmarks.shared.environments import pins
from benchmarks.shared.processes import Failed, run
from figment.machine import usable_cpus

INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""Instruction sets that decide how fast networks run, as /proc/cpuinfo has them."""

PACKAGES = ("figment", "grpcio", "protobuf", "numpy", "onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Machine:
    """Processor, system and versions."""

    date: str
    command: str
    commit: str
    """Of the checkout that the server runs from."""
    cpu: str
    instructions: list[str]
    """Of INSTRUCTIONS those that there are."""
    cores: int
    load_before: float
    """Load average of the last minute before the first measurement."""
    system: str
    python: str
    packages: dict[str, str]
    generator: str
    peers: dict[str, dict[str, str]]


def machine(program: str, peers: Iterable[str] = (), packages: Iterable[str] = ()) -> Machine:
    """What `program` measures on and with; `packages` beside PACKAGES."""
    return Machine(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=" ".join([f"python -m {program}", *sys.argv[1:]]),
        commit=_first_line(["git", "-C", str(_server_folder()), "describe", "--always", "--dirty"]),
        cpu=_cpu_line("model name") or platform.processor(),
        instructions=[name for name in INSTRUCTIONS if name in (_cpu_line("flags") or _cpu_line("Features")).split()],
        cores=usable_cpus(),
        load_before=os.getloadavg()[0],
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages={name: version for name in (*PACKAGES, *packages) if (version := _version(name))},
        generator=_first_line(["h2load", "--version"]),
        peers={peer: pins(peer) for peer in peers},
    )


def _server_folder() -> Path:
    """Where `figment serve` takes the server from; the working folder, which this process has in its path, left out."""
    found = _first_line([sys.executable, "-P", "-c", "import server; print(server.__file__)"])
    return Path(found).parent if found else Path()


def _cpu_line(name: str) -> str:
    """What /proc/cpuinfo says of the first processor under this name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _first_line(command: list[str]) -> str:
    try:
        return run(command).partition("\n")[0]
    except Failed:
        return ""
