"""Metrics of several processes, on disks with and without room."""

import errno
import os
from pathlib import Path

import pytest
from prometheus_client.multiprocess import MultiProcessCollector
from structlog.testing import capture_logs

from server import allocation as room
from server.errors import CannotStart
from server.processes.scratch import PREFIX, Scratch
from server.telemetry.metric_files import FIRST_BYTES, KINDS, MetricFile, forget_gauges, make_file, make_room

KEYS = [f'["m", "m", {{"l": "{number:0100}"}}, "help"]' for number in range(2000)]
"""More than fit into a file at first."""


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether there is no room any more, the only entry."""
    is_full, write = [False], os.pwrite

    def pwrite(descriptor: int, content: bytes, offset: int) -> int:
        if is_full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content, offset)

    monkeypatch.setattr(room.os, "pwrite", pwrite)
    return is_full


def room_of(path: Path) -> int:
    return path.stat().st_blocks * 512


def values_of(path: Path) -> dict[str, float]:
    return {key: value for key, value, _, _ in MetricFile.read_all_values_from_file(str(path))}


def test_a_file_has_all_the_room_that_it_promises(tmp_path: Path):
    path = tmp_path / "counter_a.db"
    file = MetricFile(str(path))
    for number, key in enumerate(KEYS):
        file.write_value(key, float(number), 0.0)
        assert room_of(path) >= path.stat().st_size >= FIRST_BYTES
    file.close()
    assert values_of(path) == {key: float(number) for number, key in enumerate(KEYS)}


def test_a_process_that_is_started_again_goes_on_with_what_was_counted(tmp_path: Path):
    path = tmp_path / "counter_a.db"
    for _ in range(2):
        file = MetricFile(str(path))
        for key in KEYS[:3]:
            file.write_value(key, file.read_value(key)[0] + 1, 0.0)
        file.close()
    assert values_of(path) == dict.fromkeys(KEYS[:3], 2.0)


def test_what_a_full_disk_has_no_room_for_is_not_counted_and_told_once(tmp_path: Path, full_disk: list[bool]):
    file = MetricFile(str(tmp_path / "counter_a.db"))
    file.write_value(KEYS[0], 1.0, 0.0)
    full_disk[0] = True
    with capture_logs() as lines:
        for key in KEYS:
            file.write_value(key, file.read_value(key)[0] + 1, 0.0)
    kept = values_of(tmp_path / "counter_a.db")
    assert kept[KEYS[0]] == 2.0
    assert len(kept) < len(KEYS)
    (line,) = lines
    assert (line["event"], line["reason"]) == ("metrics are lost", "No space left on device")
    full_disk[0] = False
    file.write_value(KEYS[-1], 5.0, 0.0)
    assert values_of(tmp_path / "counter_a.db")[KEYS[-1]] == 5.0
    file.close()


def test_a_process_that_finds_no_room_cannot_start_and_leaves_nothing_half_made(tmp_path: Path, full_disk: list[bool]):
    make_room(tmp_path, "first")
    assert all(room_of(tmp_path / f"{kind}_first.db") >= FIRST_BYTES for kind in KINDS)
    full_disk[0] = True
    with pytest.raises(CannotStart, match=r"no room for the metrics of second, 256 KiB, .*No space left.*TMPDIR"):
        make_room(tmp_path, "second")
    assert not list(tmp_path.glob("*second*"))
    make_room(tmp_path, "first")


def test_gauges_end_with_their_process_and_counts_stay(tmp_path: Path):
    for kind in KINDS:
        make_file(tmp_path / f"{kind}_gateway-1.db")
        make_file(tmp_path / f"{kind}_gateway-10.db")
    forget_gauges(tmp_path, "gateway-1")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"{kind}_gateway-10.db" for kind in KINDS} | {"counter_gateway-1.db", "histogram_gateway-1.db"}
    assert list(MultiProcessCollector(None, str(tmp_path)).collect()) == []


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_removed_at_the_end(temporary: Path):
    scratch = Scratch.make()
    (scratch.path / "file").touch()
    assert [path.name.startswith(PREFIX) for path in temporary.iterdir()] == [True]
    scratch.close()
    assert not list(temporary.iterdir())


def test_what_a_killed_server_left_is_removed_by_the_next_and_what_a_running_one_has_is_not(temporary: Path):
    running, killed = Scratch.make(), Scratch.make()
    child = os.dup(killed.lock)  # of a process that outlives its server for a moment
    os.close(killed.lock)
    Scratch.make().close()
    assert set(temporary.iterdir()) == {running.path, killed.path}
    os.close(child)
    Scratch.make().close()
    assert list(temporary.iterdir()) == [running.path]
    running.close()


def test_a_temporary_folder_that_cannot_be_used_is_told(temporary: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(temporary / "nowhere"))
    with pytest.raises(CannotStart, match=r"^gateways: no temporary folder can be made: No such file.*TMPDIR"):
        Scratch.make()
