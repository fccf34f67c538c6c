"""File operations that survive a power cut, and the errors of a disk that refuses."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cairn.core import StorageError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def storage_errors(doing: str, *, only_full: bool = False) -> Iterator[None]:
    """Turn an `OSError` in the block (`only_full`: only a full disk) into a `StorageError` with a remedy."""
    try:
        yield
    except OSError as error:
        if only_full and error.errno not in _FULL:
            raise
        remedy = (
            "free space (cairn artifact gc frees what nothing uses), then try again"
            if error.errno in _FULL
            else "check that the folder exists, is on a healthy disk and that this user may write there"
        )
        where = f" ({error.filename})" if error.filename else ""
        raise StorageError(f"{doing}: {error.strerror or error}{where}", remedy=remedy) from error


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and wait until the disk has it; its folder is not synced."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)


def sync(path: Path) -> None:
    """Wait until the disk has a file's bytes, or a folder's entries."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_read_only(path: Path) -> None:
    """Take the write bits away."""
    os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) & ~0o222 | 0o444)


def remove_tree(folder: Path) -> None:
    """Delete a folder; one that is gone already is fine."""
    shutil.rmtree(folder, ignore_errors=True)
