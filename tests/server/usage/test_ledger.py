"""The ledger: stored once, in order, off the path; what refuses is tried again; what is too much is said."""

import threading

import pytest

from cairn.core.errors import StorageError
from cairn.registry import Registry
from cairn.server.usage.ledger import Ledger, latency_step, packed, seconds_of, unpacked
from tests.server.usage.conftest import entry, rows


def test_what_many_threads_put_is_stored_once(registry: Registry, ledger: Ledger) -> None:
    def put(number: int) -> None:
        for each in range(250):
            ledger.put(entry(f"{number}-{each}", prompt_tokens=number, completion_tokens=each))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.flush()
    stored = rows(registry)
    assert len(stored) == 2000
    assert sum(row.prompt_tokens for row in stored) == 250 * sum(range(8))
    assert sum(row.completion_tokens for row in stored) == 8 * sum(range(250))


def test_closing_stores_what_waits(registry: Registry) -> None:
    ledger = Ledger(registry.database)
    for number in range(3000):
        ledger.put(entry(f"{number:05}"))
    ledger.close()
    assert [row.usage_id for row in rows(registry)] == [f"{number:05}" for number in range(3000)]
    assert ledger.num_waiting == 0


def test_work_is_done_between_the_entries_before_and_after_it(registry: Registry, ledger: Ledger) -> None:
    seen = []
    for number in range(50):
        ledger.put(entry(f"a{number:03}"))
        seen.append((number + 1, ledger.after(lambda: len(rows(registry)))))
    assert [(num, found.result()) for num, found in seen] == [(num, num) for num in range(1, 51)]


def test_work_that_fails_fails_alone(registry: Registry, ledger: Ledger) -> None:
    failed = ledger.after(lambda: 1 // 0)
    ledger.put(entry("a"))
    ledger.flush()
    with pytest.raises(ZeroDivisionError):
        failed.result()
    assert len(rows(registry)) == 1


def test_work_that_nobody_waits_for_is_left_out(registry: Registry, ledger: Ledger) -> None:
    gate, done = threading.Event(), []
    first = ledger.after(lambda: gate.wait(30))
    given_up = ledger.after(lambda: done.append(1))
    assert given_up.cancel()
    gate.set()
    assert first.result()
    ledger.put(entry("a"))
    ledger.flush()
    assert (len(rows(registry)), done) == (1, [])


def test_an_entry_counts_once_and_refusals_add_up(registry: Registry, ledger: Ledger) -> None:
    for _ in range(3):
        ledger.put(entry("once", prompt_tokens=5))
        ledger.put(entry("refused_x", outcome="refused"))
        ledger.flush()
    stored = {row.usage_id: row for row in rows(registry)}
    assert (stored["once"].num_requests, stored["once"].prompt_tokens) == (1, 5)
    assert stored["refused_x"].num_requests == 3


def test_what_the_database_refuses_waits(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(registry.database, most_waiting=2)
    store, refused = ledger._store, threading.Event()

    def refuse(_rows: object) -> None:
        refused.set()
        raise StorageError("the disk is full", remedy="free space")

    monkeypatch.setattr(ledger, "_store", refuse)
    ledger.put(entry("a"))
    assert refused.wait(30)
    assert not ledger.is_full
    ledger.put(entry("b"))
    assert ledger.is_full
    monkeypatch.setattr(ledger, "_store", store)
    ledger.flush()
    assert not ledger.is_full
    ledger.close()
    assert [row.usage_id for row in rows(registry)] == ["a", "b"]
    assert "usage cannot be stored, it waits: the disk is full; free space" in caplog.text


def test_what_is_lost_at_the_end_is_said(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_rows: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr("cairn.server.usage.ledger._SECONDS", 0.001)
    ledger = Ledger(registry.database)
    monkeypatch.setattr(ledger, "_store", refuse)
    ledger.put(entry("a"))
    ledger.close()
    assert "1 entries and receipts are lost: the disk is full" in caplog.text


def test_times_keep_their_place_on_the_scale() -> None:
    for seconds in (0.0, 0.002, 0.05, 1.0, 59.0, 600.0):
        assert seconds_of(latency_step(seconds)) == pytest.approx(seconds, rel=0.1, abs=1e-4)


def test_names_of_groups() -> None:
    assert unpacked(packed(frozenset({"b", "a c", "ä"}))) == ["a c", "b", "ä"]
    assert unpacked(packed(frozenset())) == []
