"""A folder watched: synced when it has changed and is quiet again, and never taken for empty when it is away.

A glance at the folder (names, sizes, times; no content) tells whether anything changed since the last sync.
While it goes on changing a sync waits, but not for ever. A folder that cannot be read, or in which a file
system that was mounted is not, is left as the collection has it until it is back. It is looked at, not
subscribed to: that works on every file system, also over a network.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cairn.core import CairnError, ConflictError, NotFoundError
from cairn.core.progress import Progress, Silent
from cairn.data.parsing import ParserPool
from cairn.retrieval.collection import Collection
from cairn.retrieval.sync import SyncReport, sync

MOST_WAITS = 15
"""Glances for which a sync waits for the folder to be quiet."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What a folder looks like."""

    digest: bytes
    device: int
    mounts: frozenset[str]
    """Folders below it that are file systems of their own."""


def glance(folder: Path) -> Glance:
    """Look at a folder; an error where any of it cannot be seen."""

    def refuse(error: OSError) -> None:
        raise NotFoundError(f"cannot read {error.filename}: {error.strerror}", remedy="check its permissions")

    try:
        device = folder.stat().st_dev
    except OSError as error:
        raise NotFoundError(f"cannot see {folder}: {error.strerror}", remedy="mount it again") from None
    digest, mounts = hashlib.blake2b(), set[str]()
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(parent, name)
            try:
                found = os.lstat(path)
            except OSError:
                continue  # gone this moment: the next glance tells
            told = (path, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
            digest.update(repr(told).encode("utf-8", "surrogateescape"))
        mounts.update(each for name in folders if _device(each := os.path.join(parent, name)) != device)
    return Glance(digest.digest(), device, frozenset(mounts))


class FolderWatch:
    """One folder kept in a collection; `step` again and again."""

    def __init__(
        self,
        collection: Callable[[], Collection],
        folder: Path,
        *,
        parsers: ParserPool,
        prefix: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._collection, self._folder, self._prefix = collection, folder, prefix
        self._parsers, self._progress = parsers, progress or Silent()
        self._first: Glance | None = None
        self._synced = self._last = b""
        self._num_waits = 0
        self._problem = ""

    def step(self) -> SyncReport | None:
        """Look, and sync if it is time; a problem is told once, and tried again each time."""
        try:
            seen = self._seen()
            if seen.digest == self._synced or self._is_unquiet(seen):
                return None
            report = sync(
                self._collection(),
                self._folder,
                parsers=self._parsers,
                prefix=self._prefix,
                progress=self._progress,
            )
        except CairnError as error:
            if error.sentence != self._problem:
                self._progress.say(error.sentence)
            self._problem = error.sentence
            return None
        self._synced, self._num_waits, self._problem = seen.digest, 0, ""
        return report

    def _seen(self) -> Glance:
        """A glance at all that was there before; new file systems may join."""
        seen = glance(self._folder)
        if self._first is not None:
            away = self._first.mounts - seen.mounts
            if away or seen.device != self._first.device:
                where = min(away, default=str(self._folder))
                raise ConflictError(
                    f"{where} is not the file system it was", remedy="mount it again, or start anew"
                )
        self._first = seen
        return seen

    def _is_unquiet(self, seen: Glance) -> bool:
        """Whether it has changed since the last glance, and may go on changing."""
        has_changed = bool(self._last) and seen.digest != self._last
        self._last = seen.digest
        self._num_waits += has_changed
        return has_changed and self._num_waits <= MOST_WAITS


def _device(path: str) -> int:
    try:
        return os.lstat(path).st_dev
    except OSError as error:
        raise NotFoundError(f"cannot see {path}: {error.strerror}", remedy="mount it again") from None
