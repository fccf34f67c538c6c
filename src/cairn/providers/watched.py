"""Progress that can be read and broken off: what a load says of itself while others wait for it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from cairn.core.errors import UnavailableError
from cairn.core.progress import Progress, Task


class Watched:
    """Hands everything on to another `Progress`; `text` is how far the newest task is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: _WatchedTask | None = None
        self.is_stopped = False

    @property
    def text(self) -> str:
        """`packing the weights: 40%, 12 s left`; empty when nothing is told."""
        return self._task.text if self._task else ""

    def stop(self) -> None:
        """Fail the work where it next counts: nobody needs it any more."""
        self.is_stopped = True

    @contextmanager
    def task(self, label: str, total: float | None = None) -> Iterator[Task]:
        with self._progress.task(label, total) as inner:
            self._task = _WatchedTask(self, inner, label, total)
            try:
                yield self._task
            finally:
                self._task = None

    def say(self, text: str) -> None:
        self._progress.say(text)


class _WatchedTask:
    def __init__(self, owner: Watched, inner: Task, label: str, total: float | None) -> None:
        self._owner, self._inner = owner, inner
        self._label, self._total = label, total
        self._done = self._resumed = 0.0
        self._started = time.monotonic()

    @property
    def text(self) -> str:
        if not self._total or self._done <= self._resumed:
            return self._label
        elapsed = time.monotonic() - self._started
        left = elapsed * max(self._total - self._done, 0.0) / (self._done - self._resumed)
        return f"{self._label}: {100 * self._done / self._total:.0f}%, {left:.0f} s left"

    def advance(self, amount: float = 1) -> None:
        if self._owner.is_stopped:
            raise UnavailableError("the load was broken off", remedy="ask again")
        self._done += amount
        self._inner.advance(amount)

    def resume(self, amount: float) -> None:
        self._done += amount
        self._resumed += amount
        self._inner.resume(amount)

    def note(self, text: str) -> None:
        self._inner.note(text)
