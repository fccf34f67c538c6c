"""Locks between processes: `flock` on a file, released by the kernel when its holder dies.

Unlike a recorded process id this cannot be fooled by reused ids, reboots or containers that share a folder.
Each call opens the file anew, so threads and objects of one process exclude each other too.
Not covered: file systems without `flock` (object storage).
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Hold:
    """A lock held until `release` or the end of the process."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    def release(self, *, keep_file: bool = False) -> None:
        """Delete the lock file and let go; a second call does nothing.

        With `keep_file` it looks as if the process had died: whoever comes next may take over.
        """
        if self._fd >= 0:
            if not keep_file:
                self.path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def hold(path: Path) -> Hold:
    """Take the lock at `path`, waiting if need be; the file appears with it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        # Whoever held it before us may have deleted the file: then our lock guards nothing.
        if _is_file(path, fd):
            return Hold(path, fd)
        os.close(fd)


def take_over(path: Path) -> Hold | None:
    """The lock at `path` if its holder is gone; None while the holder lives or when there is no such file."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    if _is_file(path, fd):
        return Hold(path, fd)
    os.close(fd)
    return None


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock at `path` for a block, alone or shared; the file stays."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _is_file(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
