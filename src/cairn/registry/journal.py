"""What a request used and what made its answer, in a file before the answer's end is sent.

So a server that is killed has counted it, and the database can be written to in batches. A line is no longer
needed once the database has its row. Files of a process that is gone are read when the next server starts;
what has its row by then keeps it. The file is not forced to the disk: the machine's own end may take the last
moments with it.
"""

import fcntl
import json
import logging
import os
import secrets
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger("cairn.registry")

FOLDER = "journal"
"""Of all processes' journals, in the home."""

_MOST_LINES = 2000
"""In one file; then a new one begins, and goes when none of its lines is needed."""
_LOCK = "lock"


@dataclass(slots=True)
class _File:
    path: Path
    fd: int
    num_lines: int = 0
    num_needed: int = 0


class Journal:
    """The files of one process, in a folder of its own that it holds locked. Any thread may call."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: Path | None = None
        self._lock_fd = -1
        self._file: _File | None = None
        self._needed: dict[str, _File] = {}
        self._lock = threading.Lock()
        self._has_failed = False

    def note(self, key: str, values: Mapping[str, Any]) -> bool:
        """Write values under a key, of which the last line counts; False when the disk refuses."""
        line = json.dumps({"key": key, **values}, separators=(",", ":"), allow_nan=False)
        data = line.encode() + b"\n"
        with self._lock:
            try:
                file = self._current()
                size = os.fstat(file.fd).st_size
                if os.write(file.fd, data) < len(data):
                    os.ftruncate(file.fd, size)
                    raise OSError("only a part of a line could be written")
            except OSError as error:
                if not self._has_failed:
                    logger.warning("the journal cannot be written: %s", error)
                self._has_failed = True
                return False
            file.num_lines += 1
            file.num_needed += 1
            before = self._needed.get(key)
            self._needed[key] = file
            if before is not None:
                self._release(before)
            return True

    def settle(self, keys: Iterable[str]) -> None:
        """These have their rows."""
        with self._lock:
            for key in keys:
                if (file := self._needed.pop(key, None)) is not None:
                    self._release(file)

    def close(self) -> None:
        """Let the folder go; what is still needed stays for the next server."""
        with self._lock:
            if self._own is None:
                return
            if self._file is not None:
                os.close(self._file.fd)
            if not self._needed:
                shutil.rmtree(self._own, ignore_errors=True)
            os.close(self._lock_fd)
            self._own = self._file = None

    def _current(self) -> _File:
        if self._file is not None and self._file.num_lines < _MOST_LINES:
            return self._file
        if self._own is None:
            self._own, self._lock_fd = _locked_folder(self._folder)
        if self._file is not None:
            os.close(self._file.fd)
            if not self._file.num_needed:
                self._file.path.unlink(missing_ok=True)
        path = self._own / f"{secrets.token_hex(8)}.jsonl"
        self._file = _File(path, os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600))
        return self._file

    def _release(self, file: _File) -> None:
        file.num_needed -= 1
        if not file.num_needed and file is not self._file:
            file.path.unlink(missing_ok=True)


def left_behind(folder: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """The folders of processes that are gone, with their lines; whoever stored those removes the folder.

    While it is looked at a folder is held, so that no second server takes it too.
    """
    for own in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            fd = os.open(own / _LOCK, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            files = sorted(own.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
            yield own, [line for path in files for line in _lines(path)]
        except OSError:
            continue  # its process lives, or another server is at it
        finally:
            os.close(fd)


def noted(folder: Path, *, key: str | None = None) -> Iterator[dict[str, Any]]:
    """The lines (of one key) of all processes; those whose rows are there may be among them."""
    start = b"" if key is None else b'{"key":%s,' % json.dumps(key).encode()
    for path in sorted(folder.glob("*/*.jsonl")):
        try:
            data = path.read_bytes()
        except OSError:
            continue  # nothing in it is needed any more
        yield from (json.loads(line) for line in data.split(b"\n")[:-1] if line.startswith(start))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            logger.warning("a line of %s is cut off", path.name)


def _locked_folder(folder: Path) -> tuple[Path, int]:
    """A new folder, and its lock held; one that was taken for left behind in between is not used."""
    while True:
        own = folder / secrets.token_hex(8)
        own.mkdir(parents=True, mode=0o700)
        fd = os.open(own / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            continue
        if (own / _LOCK).exists():
            return own, fd
        os.close(fd)
