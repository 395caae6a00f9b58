"""The folder in which the processes of one server meet, and its end, also where a server was killed.

    make() -> folder, locked ... -> close() -> nothing

The lock ends with the last process that has it, so what a server left that was killed is known by its lock, and the next
one removes it.
"""

import os
import shutil
import stat
import tempfile
from pathlib import Path

import structlog

from server.errors import CannotStart

PREFIX = "figment-serve-"

_LOCK = "lock"

log = structlog.get_logger()


class Scratch:
    """A folder for temporary files; `lock` is a descriptor that all processes which use it are to inherit."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.lock = lock

    @classmethod
    def make(cls) -> "Scratch":
        """A new folder; those of servers that were killed are removed.

        Raises: CannotStart.
        """
        import fcntl  # not on Windows, where servers have one process

        try:
            _remove_left(Path(tempfile.gettempdir()))
            path = Path(tempfile.mkdtemp(prefix=PREFIX))
        except OSError as error:
            problem = f"gateways: no temporary folder can be made: {error.strerror or error}"
            raise CannotStart(f"{problem}: TMPDIR names one that this user may write") from None
        try:
            unlocked = path / "unlocked"
            lock = os.open(unlocked, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            unlocked.rename(path / _LOCK)
        except OSError as error:
            shutil.rmtree(path, ignore_errors=True)
            problem = f"gateways: the temporary folder {path} cannot be used: {error.strerror}"
            raise CannotStart(f"{problem}: TMPDIR names another one") from None
        return cls(path, lock)

    def close(self) -> None:
        """Remove the folder."""
        os.close(self.lock)
        shutil.rmtree(self.path, ignore_errors=True)


def _remove_left(folder: Path) -> None:
    """Remove what servers left that were killed: folders whose locks nobody has."""
    import fcntl  # as above

    for lock in folder.glob(f"{PREFIX}*/{_LOCK}"):
        try:
            owner = lock.parent.lstat()
            if owner.st_uid != os.getuid() or not stat.S_ISDIR(owner.st_mode):
                continue
            descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass
        else:
            log.info("removed what a killed server left", folder=str(lock.parent))
            shutil.rmtree(lock.parent, ignore_errors=True)
        finally:
            os.close(descriptor)
