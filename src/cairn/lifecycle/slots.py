"""Slots: one place per stage key, where a build leaves what the next one goes on with.

`builds/<key>/` in the home folder holds a lock, which makes two builds of the same stage take
turns (the second then finds the first one's output), and the id of the run that has not been
finished, whose folder a new run takes over with its checkpoints. The kernel drops the lock
when its holder dies.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cairn.core import Settings, StorageError, short

_KEPT = frozenset({"owner.lock"})


class Slot:
    """The place of one stage key; held by one build at a time."""

    def __init__(self, folder: Path) -> None:
        self._unfinished = folder / "run"

    def adopt(self, run_folder: Path) -> bool:
        """Move what an unfinished run left into a new run's folder; False when there was nothing."""
        try:
            old = run_folder.parent / self._unfinished.read_text().strip()
        except OSError:
            old = run_folder
        moved = False
        if old != run_folder and old.is_dir():
            for entry in [entry for entry in old.iterdir() if entry.name not in _KEPT]:
                os.replace(entry, run_folder / entry.name)
                moved = True
        self._unfinished.write_text(run_folder.name)
        return moved

    def clear(self) -> None:
        """The stage is finished: nothing is left to go on with."""
        self._unfinished.unlink(missing_ok=True)


@contextmanager
def hold_slot(settings: Settings, key: str, *, waiting: Callable[[], None]) -> Iterator[Slot]:
    """Hold the slot of a stage key; `waiting` is called once when another build has it."""
    folder = settings.home / "builds" / short(key)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageError(
            f"cannot use {folder}: {error.strerror}", remedy="free some space, then run it again"
        ) from None
    try:
        _lock(descriptor, waiting)
        yield Slot(folder)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, waiting: Callable[[], None]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def remove_checkpoints(run_folder: Path) -> None:
    """Checkpoints of a finished stage are no use to anyone, and large."""
    shutil.rmtree(run_folder / "checkpoints", ignore_errors=True)
