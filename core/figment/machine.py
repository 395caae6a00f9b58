"""What this process may use of its machine."""

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def usable_cpus(cgroups: Path = CGROUPS) -> int:
    """CPUs that this process may use: its affinity, cut by the quota of its control group, version 1 or 2; at least 1."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cpus, *_quotas(cgroups), cpus))


def _quotas(cgroups: Path) -> Iterator[int]:
    """Whole CPUs that a control group is given, if it says."""
    for quota_file, period_file in (("cpu.max", None), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, *period = (cgroups / quota_file).read_text().split()
            period = period or [(cgroups / period_file).read_text()] if period_file else period
            if int(quota) > 0:
                yield int(quota) // int(period[0])
        except (OSError, ValueError):  # there is none, or it is "max"
            continue
