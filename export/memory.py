"""What this process has of the machine's memory, and what it may still take: by Linux's figures, 0 where there are none.

Imports nothing large: what is measured is the process that asks.
"""

import resource
import sys
from pathlib import Path


def resident_bytes() -> int:
    """Memory that the process has now."""
    return _line("/proc/self/status", "VmRSS")


def peak_bytes() -> int:
    """The most that it has had; where Linux does not tell, getrusage does, with that of the process that it was forked from."""
    unit = 1 if sys.platform == "darwin" else 1024
    return _line("/proc/self/status", "VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_bytes() -> int:
    """What it may still take, by the machine and by its control group."""
    free = _line("/proc/meminfo", "MemAvailable")
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        return free if limit == "max" else min(free, max(int(limit) - int(used), 0))
    except (OSError, ValueError):
        return free


def _line(file: str, name: str) -> int:
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)
