"""One process for one file: an operating system's lock, which also tells whether its last holder ended cleanly."""

import fcntl
import os
from pathlib import Path
from typing import Self

from storage.errors import DatabaseLocked


class FileLock:
    """Held until `release`. The system drops it with the process, however that ends.

    The lock's file holds the number of the process. A clean end empties it, so that a number found in it while nobody
    holds the lock is the mark of an end that was not clean. The file itself stays: were it removed, a third
    process could lock a new one while a second still locks the old one.
    """

    def __init__(self, descriptor: int, *, unclean: bool) -> None:
        self._descriptor = descriptor
        self.unclean = unclean
        """The last holder ended without `release(clean=True)`."""

    @classmethod
    def take(cls, path: Path) -> Self:
        """Lock `path` or raise: `DatabaseLocked` when it is taken, `OSError` when it cannot be written."""
        descriptor = os.open(_lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            holder = os.pread(descriptor, 32, 0)
            _write(descriptor, str(os.getpid()))
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0)
            os.close(descriptor)
            process = f" (process {holder.decode()})" if holder else ""
            raise DatabaseLocked(
                f"The database file {path} is in use by another Parley{process}. Stop that one first."
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, unclean=bool(holder))

    def release(self, *, clean: bool) -> None:
        """Let go. `clean` False leaves the mark, so that the next holder finds `unclean`."""
        if clean:
            _write(self._descriptor, "")
        os.close(self._descriptor)


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
    os.fsync(descriptor)
