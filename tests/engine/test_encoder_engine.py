"""Who waits for an encoder, and what is computed together."""

import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.errors import OverloadedError, UnavailableError
from cairn.engine.encoder_engine import EncoderEngine
from cairn.engine.native_encoder import Encoding
from cairn.engine.runner import FloatArray


class Recorder:
    """A runner whose result is the text's first token; each batch waits for leave."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.batches: list[list[Encoding]] = []
        self.leave = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self._is_open = is_open

    def run(self, texts: Sequence[Encoding]) -> list[FloatArray]:
        self.batches.append(list(texts))
        self.entered.release()
        if not self._is_open:
            assert self.leave.acquire(timeout=30)
        if any(text.token_ids[0] < 0 for text in texts):
            raise ValueError("a broken text")
        return [np.full((1, 1), text.token_ids[0], np.float32) for text in texts]


def _texts(first: int, *lengths: int) -> list[Encoding]:
    return [Encoding([first + place] * length) for place, length in enumerate(lengths)]


def _values(rows: list[FloatArray]) -> list[float]:
    return [float(each[0, 0]) for each in rows]


@settings(max_examples=50, deadline=None)
@given(
    requests=st.lists(st.lists(st.integers(1, 30), max_size=6), min_size=1, max_size=6),
    budget=st.integers(1, 60),
)
def test_everyone_gets_their_own_in_order(requests: list[list[int]], budget: int) -> None:
    runner = Recorder(is_open=True)
    engine = EncoderEngine(runner, token_budget=budget)
    futures = [engine.submit(_texts(100 * n, *lengths)) for n, lengths in enumerate(requests)]
    for n, (future, lengths) in enumerate(zip(futures, requests, strict=True)):
        assert _values(future.result(30)) == [100 * n + place for place in range(len(lengths))]
    engine.close()
    for batch in runner.batches:
        assert sum(map(len, batch)) <= budget or len(batch) == 1


def test_waiting_requests_are_computed_together_and_in_turn() -> None:
    runner = Recorder()
    engine = EncoderEngine(runner, token_budget=10)
    first = engine.submit(_texts(0, 1))
    assert runner.entered.acquire(timeout=30)
    many, one = engine.submit(_texts(100, 4, 4, 4)), engine.submit(_texts(200, 2))
    runner.leave.release(3)
    assert _values(one.result(30)) == [200.0]
    assert _values(many.result(30)) == [100.0, 101.0, 102.0]
    assert first.done()
    # The single text goes with the first of the many, not after the last of them.
    assert [[text.token_ids[0] for text in batch] for batch in runner.batches] == [
        [0],
        [100, 200, 101],
        [102],
    ]
    engine.close()


def test_a_failed_batch_fails_its_requests_alone() -> None:
    runner = Recorder()
    engine = EncoderEngine(runner, token_budget=4)
    held = engine.submit(_texts(0, 1))
    assert runner.entered.acquire(timeout=30)
    broken, sound = engine.submit([Encoding([-1] * 4), Encoding([7] * 4)]), engine.submit(_texts(50, 4))
    runner.leave.release(4)
    with pytest.raises(ValueError, match="broken"):
        broken.result(30)
    assert _values(sound.result(30)) == [50.0]
    assert held.done()
    assert engine.is_running
    engine.close()
    assert [7] * 4 not in [list(text.token_ids) for batch in runner.batches for text in batch]


def test_what_is_cancelled_is_not_computed() -> None:
    runner = Recorder()
    engine = EncoderEngine(runner, token_budget=4)
    engine.submit(_texts(0, 1))
    assert runner.entered.acquire(timeout=30)
    left = engine.submit(_texts(10, 4, 4))
    assert left.cancel()
    kept = engine.submit(_texts(20, 4))
    runner.leave.release(4)
    assert _values(kept.result(30)) == [20.0]
    with pytest.raises(CancelledError):
        left.result(30)
    engine.close()
    assert [[text.token_ids[0] for text in batch] for batch in runner.batches] == [[0], [20]]


def test_too_many_wait() -> None:
    runner = Recorder()
    engine = EncoderEngine(runner, max_waiting=1)
    engine.submit(_texts(0, 1))
    assert runner.entered.acquire(timeout=30)
    waiting = engine.submit(_texts(10, 1))
    with pytest.raises(OverloadedError):
        engine.submit(_texts(20, 1))
    runner.leave.release(2)
    assert _values(waiting.result(30)) == [10.0]
    engine.close()


def test_closing_ends_what_waits() -> None:
    runner = Recorder()
    engine = EncoderEngine(runner)
    running = engine.submit(_texts(0, 1))
    assert runner.entered.acquire(timeout=30)
    waiting = engine.submit(_texts(10, 1))
    closer = threading.Thread(target=engine.close)
    closer.start()
    while engine.is_running:
        pass
    runner.leave.release(2)
    closer.join(30)
    assert _values(running.result(30)) == [0.0]
    with pytest.raises(UnavailableError):
        waiting.result(30)
    with pytest.raises(UnavailableError):
        engine.submit(_texts(0, 1))
