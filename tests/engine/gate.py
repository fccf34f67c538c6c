"""A fake runner that computes a step only when told to, so that tests need no sleeping.

A permit that never comes fails the step: a test that forgot one fails, instead of waiting for ever.
"""

import threading

from cairn.engine.runner import Logits, ModelInput
from tests.engine.fake_runner import FakeRunner

PATIENCE = 60.0
"""Seconds after which a permit is not coming any more."""


class GatedRunner(FakeRunner):
    """Waits for a permit before every step; `open` gives them without end."""

    def __init__(self) -> None:
        super().__init__()
        self._permits = threading.Semaphore(0)
        self._is_open = threading.Event()

    def allow(self, num: int) -> None:
        self._permits.release(num)

    def open(self) -> None:
        self._is_open.set()
        self._permits.release()

    def run(self, model_input: ModelInput) -> Logits:
        assert self._permits.acquire(timeout=PATIENCE), "nobody allowed this step"
        if self._is_open.is_set():
            self._permits.release()
        return super().run(model_input)
