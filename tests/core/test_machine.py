"""How many CPUs a process may use: what its control group is given, by both versions of those."""

from pathlib import Path

import pytest

from figment import machine
from figment.machine import usable_cpus


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(8)))


def group(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_max", ".max").replace("cfs", "cpu.cfs")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return folder


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, 8),
        ({"cpu_max": "max 100000"}, 8),
        ({"cpu_max": "200000 100000"}, 2),
        ({"cpu_max": "150000 100000"}, 1),
        ({"cpu_max": "50000 100000"}, 1),
        ({"cpu_max": "6400000 100000"}, 8),
        ({"cpu_max": "what is this"}, 8),
        ({"cpu__cfs_quota_us": "300000", "cpu__cfs_period_us": "100000"}, 3),
        ({"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"}, 8),
        ({"cpu__cfs_quota_us": "300000"}, 8),
    ],
)
def test_a_quota_cuts_the_affinity(tmp_path: Path, files: dict[str, str], cpus: int):
    assert usable_cpus(group(tmp_path, **files)) == cpus


def test_without_affinity_all_cpus_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(machine.os, "sched_getaffinity")
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 6)
    assert usable_cpus(tmp_path) == 6
