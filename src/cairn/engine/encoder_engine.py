"""Requests for an encoder, computed together: a thread that fills each call with texts of all who wait.

Texts are not padded, so a batch is as many as fit a budget of tokens, whatever their lengths. Requests take
turns text by text: a request of ten thousand texts holds up nobody's single one for longer than a batch.
A request whose future is cancelled is dropped with what is left of it.
"""

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from cairn.core.errors import OverloadedError, UnavailableError
from cairn.engine.native_encoder import Encoding
from cairn.engine.runner import FloatArray


class EncoderRunner(Protocol):
    """What computes a batch."""

    def run(self, texts: Sequence[Encoding]) -> list[FloatArray]:
        """The rows of each text."""
        ...


@dataclass(slots=True, eq=False)
class _Job:
    """A request: texts, the results there are, and where the next text is."""

    texts: Sequence[Encoding]
    future: "Future[list[FloatArray]]" = field(default_factory=Future)
    results: dict[int, FloatArray] = field(default_factory=dict)
    num_taken: int = 0

    @property
    def is_over(self) -> bool:
        return self.future.done() or self.num_taken == len(self.texts)


class EncoderEngine:
    """The thread and its queue. `token_budget` tokens a batch, but never less than one text."""

    def __init__(self, runner: EncoderRunner, *, token_budget: int = 2048, max_waiting: int = 256) -> None:
        self._runner, self._budget, self._max_waiting = runner, token_budget, max_waiting
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name="cairn-encoder", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Requests with texts that no batch has taken."""
        return len(self._jobs)

    @property
    def is_running(self) -> bool:
        """Whether requests are still taken."""
        return self._thread.is_alive() and not self._is_closed

    def submit(self, texts: Sequence[Encoding]) -> "Future[list[FloatArray]]":
        """The rows of each text, in order; `OverloadedError` when too many requests wait."""
        job = _Job(texts)
        if not texts:
            job.future.set_result([])
            return job.future
        with self._changed:
            if self._is_closed:
                raise UnavailableError("the encoder is closed", remedy="ask again")
            if len(self._jobs) >= self._max_waiting:
                raise OverloadedError(
                    f"{len(self._jobs)} requests are waiting for the encoder",
                    remedy="wait a moment, then ask again",
                    retry_after=1.0,
                )
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """End the thread after its batch; what still waits fails."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        for job in self._jobs:
            _fail(job, UnavailableError("the encoder was closed", remedy="ask again"))
        self._jobs.clear()

    def _serve(self) -> None:
        while batch := self._next_batch():
            try:
                rows = self._runner.run([job.texts[index] for job, index in batch])
            except Exception as error:  # noqa: BLE001 (whoever asked gets it; the thread goes on for others)
                for job, _ in batch:
                    _fail(job, error)
                continue
            for (job, index), result in zip(batch, rows, strict=True):
                job.results[index] = result
                if len(job.results) == len(job.texts) and job.future.set_running_or_notify_cancel():
                    job.future.set_result([job.results[place] for place in range(len(job.texts))])

    def _next_batch(self) -> list[tuple[_Job, int]]:
        """Texts of the waiting requests in turn, waiting for the first one; none when closed."""
        with self._changed:
            batch: list[tuple[_Job, int]] = []
            left = self._budget
            while not self._is_closed:
                if not self._jobs:
                    if batch:
                        break
                    self._changed.wait()
                    continue
                job = self._jobs[0]
                if not job.is_over:
                    length = len(job.texts[job.num_taken])
                    if batch and length > left:
                        break
                    batch.append((job, job.num_taken))
                    job.num_taken += 1
                    left -= length
                self._jobs.rotate(-1)
                if job.is_over:
                    self._jobs.pop()
            return [] if self._is_closed else batch


def _fail(job: _Job, error: Exception) -> None:
    if not job.future.done() and job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)
