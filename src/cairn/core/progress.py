"""Progress: one way to tell a person how far long work is and when it will end.

Work takes a `Progress` and never prints. On a terminal `console_progress()` draws bars with
a rate and an ETA on stderr; piped, it writes a plain line at most every ten seconds; the
default for libraries and tests, `Silent`, does nothing.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Protocol, cast

_PLAIN_SECONDS = 10.0


class Task(Protocol):
    """One piece of work on display."""

    def advance(self, amount: float = 1) -> None:
        """Count `amount` more units as done."""

    def resume(self, amount: float) -> None:
        """Count `amount` units that an earlier process did, which say nothing about this one's pace."""

    def note(self, text: str) -> None:
        """Show a short remark (a loss, a file name) beside the bar."""


class Progress(Protocol):
    """Where long work reports to."""

    def task(self, label: str, total: float | None = None) -> AbstractContextManager[Task]:
        """Open a `Task` of `total` units; None when the length is not known."""

    def say(self, text: str) -> None:
        """One line that stays on screen."""


class Silent:
    """The progress that shows nothing; also its own task."""

    @contextmanager
    def task(self, label: str, total: float | None = None) -> Iterator[Task]:
        yield self

    def say(self, text: str) -> None: ...

    def advance(self, amount: float = 1) -> None: ...

    def resume(self, amount: float) -> None: ...

    def note(self, text: str) -> None: ...


def console_progress() -> Progress:
    """Bars when stderr is a terminal, sparse plain lines when it is not."""
    if not sys.stderr.isatty():
        return _Lines()
    # Drawing takes a while to import, and most processes are not watched.
    return cast("Progress", import_module("cairn.core.progress_bars").Bars())


class _Lines:
    """Plain lines for logs: a start, a line every ten seconds, and nothing else."""

    @contextmanager
    def task(self, label: str, total: float | None = None) -> Iterator[Task]:
        yield _Line(label, total)

    def say(self, text: str) -> None:
        print(text, file=sys.stderr)


class _Line:
    def __init__(self, label: str, total: float | None) -> None:
        self._label = label
        self._total = total
        self._done = self._resumed = 0.0
        self._note = ""
        self._started = self._shown = time.monotonic()

    def advance(self, amount: float = 1) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._shown >= _PLAIN_SECONDS:
            self._shown = now
            print(self._text(now - self._started), file=sys.stderr, flush=True)

    def resume(self, amount: float) -> None:
        self._done += amount
        self._resumed += amount

    def note(self, text: str) -> None:
        self._note = text

    def _text(self, elapsed: float) -> str:
        if not self._total:
            return f"{self._label}: {self._done:,.0f} in {elapsed:.0f} s {self._note}".rstrip()
        # Sums of estimated parts may end a hair beyond the total.
        eta = elapsed * max(self._total - self._done, 0.0) / max(self._done - self._resumed, 1e-9)
        share = 100 * self._done / self._total
        return f"{self._label}: {share:.0f}% in {elapsed:.0f} s, eta {eta:.0f} s {self._note}".rstrip()
