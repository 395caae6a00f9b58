"""The files by which the processes of a server tell their metrics to the one that shows them.

    count_in() -> files of this process, with room -> prometheus_client writes into them ... -> forget_gauges()

prometheus_client maps files that it has only promised itself room for, so a full disk ends a process with SIGBUS. Here a
file gets its room before it is mapped or grows; what does not fit any more is not counted, and the log says so once.
"""

import mmap
from pathlib import Path

import structlog
from prometheus_client import mmap_dict, values
from prometheus_client.multiprocess import mark_process_dead

from server.allocation import allocate
from server.errors import CannotStart

FIRST_BYTES = 1 << 16
"""Room of a file at first; it doubles when it is full."""

KINDS = ("counter", "histogram", "gauge_livesum", "gauge_livemax")
"""What each process has a file of."""

log = structlog.get_logger()


class MetricFile(mmap_dict.MmapedDict):
    """A file of metrics that has the room which it says it has."""

    _is_told = False

    def __init__(self, filename: str, read_mode: bool = False) -> None:  # the library's
        if not read_mode:
            make_file(Path(filename))
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def read_value(self, key: str) -> tuple[float, float]:
        """Value and time of a metric; 0 for one that there is no room for."""
        try:
            known: tuple[float, float] = super().read_value(key)  # type: ignore[no-untyped-call]
        except OSError as error:
            self._tell(error)
            return 0.0, 0.0
        return known

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Keep a metric, if there is room for it."""
        try:
            super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]
        except OSError as error:
            self._tell(error)

    def _init_value(self, key: str) -> None:
        # The key is padded to 8 bytes, with its length before it and two doubles behind.
        needed = self._used + len(key.encode()) + 32
        if needed > self._capacity:
            size = 2 * max(self._capacity, needed)
            allocate(self._f.fileno(), self._capacity, size)
            self._capacity = size
            self._m = mmap.mmap(self._f.fileno(), size)
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _tell(self, error: OSError) -> None:
        if not self._is_told:
            self._is_told = True
            log.error("metrics are lost", file=self._fname, reason=error.strerror)


def make_file(path: Path) -> None:
    """Make a file that has room, unless there is one.

    Raises: OSError.
    """
    if path.exists():
        return
    new = path.with_suffix(".new")
    try:
        with new.open("wb") as file:
            allocate(file.fileno(), 0, FIRST_BYTES)
        new.rename(path)
    finally:
        new.unlink(missing_ok=True)


def count_in(folder: Path, process: str) -> None:
    """Have this process, the only one of its name, count in `folder`; to be called before metrics are declared.

    It goes on with what the process of that name before it has counted.

    Raises: CannotStart, if there is no room.
    """
    values.MmapedDict = MetricFile  # type: ignore[attr-defined]
    values.ValueClass = values.MultiProcessValue(lambda: process)  # type: ignore[no-untyped-call]
    make_room(folder, process)


def make_room(folder: Path, process: str) -> None:
    """Make all files of a process that are not there. Raises: CannotStart, if there is no room."""
    try:
        for kind in KINDS:
            make_file(folder / f"{kind}_{process}.db")
    except OSError as error:
        needed = len(KINDS) * FIRST_BYTES // 1024
        raise CannotStart(
            f"no room for the metrics of {process}, {needed} KiB, in {folder}: {error.strerror}: "
            "free some, or name another folder by TMPDIR"
        ) from None


def forget_gauges(folder: Path, process: str) -> None:
    """Drop what a process that has ended had open; what it counted stays."""
    mark_process_dead(process, str(folder))  # type: ignore[no-untyped-call]
