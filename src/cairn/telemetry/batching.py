"""A thread that works off what is put in, in batches; what waits is bounded, and more is dropped."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger("cairn.telemetry")

T = TypeVar("T")


class Batches(Generic[T]):
    """Hands what was put in to `work`, a batch at a time, from a thread of its own; nothing waits for it."""

    def __init__(
        self,
        name: str,
        work: Callable[[list[T]], None],
        *,
        most_waiting: int = 2000,
        size: int = 256,
        seconds: float = 1.0,
    ) -> None:
        self.num_dropped = 0
        self._name = name
        self._work = work
        self._most_waiting = most_waiting
        self._size = size
        self._seconds = seconds
        self._waiting: deque[T] = deque()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._num_flushes = 0
        self._num_put = self._num_done = 0

    def put(self, item: T) -> None:
        """Have an item worked off soon, or dropped where too many wait."""
        with self._wake:
            if len(self._waiting) >= self._most_waiting or self._is_closing:
                self.num_dropped += 1
                return
            self._waiting.append(item)
            self._num_put += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            elif len(self._waiting) in (1, self._size):
                self._wake.notify_all()

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until what was put in is worked off; False when it is not by then."""
        with self._wake:
            goal = self._num_put
            self._num_flushes += 1
            self._wake.notify_all()
            try:
                return self._wake.wait_for(lambda: self._num_done >= goal, seconds)
            finally:
                self._num_flushes -= 1

    def close(self, seconds: float = 5.0) -> None:
        """Work off what waits, for so long, and end."""
        with self._wake:
            self._is_closing = True
            self._wake.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _run(self) -> None:
        while batch := self._next():
            try:
                self._work(batch)
            except Exception:
                # The thread's edge: telemetry may fail, what it watches may not.
                logger.exception("%s: %d traces are lost", self._name, len(batch))
                self.num_dropped += len(batch)
            with self._wake:
                self._num_done += len(batch)
                self._wake.notify_all()

    def _next(self) -> list[T]:
        """The next batch, once it is whole or has waited long enough; empty at the end."""
        with self._wake:
            self._wake.wait_for(lambda: self._waiting or self._is_closing)
            until = time.monotonic() + self._seconds
            self._wake.wait_for(
                lambda: len(self._waiting) >= self._size or self._is_closing or self._num_flushes,
                max(0.0, until - time.monotonic()),
            )
            num = min(len(self._waiting), self._size)
            return [self._waiting.popleft() for _ in range(num)]
