"""Stored traces: found again, each for its owner, bounded, and whole after a kill."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cairn.core.errors import StorageError
from cairn.telemetry import TraceFilter, TraceStore
from tests.telemetry.made import span, trace

ROOT = Path(__file__).resolve().parents[2]


def open_store(folder: Path, *, max_bytes: int = 10**8, max_seconds: float = 86400.0) -> TraceStore:
    return TraceStore(folder / "traces.db", max_bytes=max_bytes, max_seconds=max_seconds)


def disk(path: Path) -> int:
    return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))


def test_what_is_stored_is_found(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert store.listed(TraceFilter(), 10) == []
    assert store.found("00") == []
    first = trace(at=time.time() - 10, seconds=3.0, model="pebble", outcome="failed")
    inner = span("decode", first.root_id, attributes={"a": "ü\ud800", "b": [1.5, True]}, error="x.y")
    first = replace(first, spans=(*first.spans, inner))
    second = trace(user_id="bob")
    store.write([first, second])
    store.write([first])  # a batch that was tried again
    assert [each.root_id for each in store.listed(TraceFilter(), 10)] == [second.root_id, first.root_id]
    for only, expected in (
        (TraceFilter(user_id="ann"), [first]),
        (TraceFilter(model="pebble"), [first]),
        (TraceFilter(outcome="ok"), [second]),
        (TraceFilter(min_seconds=1.0), [first]),
        (TraceFilter(since=second.at - 1), [second]),
        (TraceFilter(until=first.at + 1), [first]),
        (TraceFilter(user_id="' OR 1=1 --"), []),
        (TraceFilter(before=(second.at, second.root_id)), [first]),
    ):
        assert [each.root_id for each in store.listed(only, 10)] == [each.root_id for each in expected], only
    ((summary, spans),) = store.found(first.trace_id)
    assert (summary.model, spans) == ("pebble", list(first.spans))
    store.close()


def test_a_trace_that_two_people_share_is_each_ones_own(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    ann, bob = trace(trace_id="ab" * 16), trace(trace_id="ab" * 16, user_id="bob")
    store.write([ann, bob])
    assert [summary.user_id for summary, _ in store.found("ab" * 16, "bob")] == ["bob"]
    assert len(store.found("ab" * 16)) == 2
    store.close()


def test_the_oldest_make_room(tmp_path: Path) -> None:
    limit = 3_000_000
    store = open_store(tmp_path, max_bytes=limit)
    began = time.time() - 3000
    for batch in range(30):
        store.write(
            [
                trace(
                    at=began + batch * 100 + n,
                    spans=tuple(span("s", attributes={"noise": os.urandom(600).hex()}) for _ in range(4)),
                )
                for n in range(100)
            ]
        )
        assert disk(store.path) < limit * 1.5
    kept = store.listed(TraceFilter(), 10_000)
    assert 300 < len(kept) < 3000
    assert kept[0].at == began + 29 * 100 + 99
    assert [each.at for each in kept] == sorted((each.at for each in kept), reverse=True)
    store.close()
    # A smaller bound gives the disk back.
    smaller = open_store(tmp_path, max_bytes=1_500_000)
    smaller.write([trace()])
    smaller.close()
    assert disk(smaller.path) < 1_500_000


def test_the_old_are_let_go(tmp_path: Path) -> None:
    store = open_store(tmp_path, max_seconds=60.0)
    store.write([trace(at=time.time() - 30), trace(at=time.time() - 120)])
    assert len(store.listed(TraceFilter(), 10)) == 1
    store.close()


def test_a_file_that_cannot_be_read_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    path.write_bytes(b"stones" * 1000)
    store = open_store(tmp_path)
    store.write([trace()])
    assert len(store.listed(TraceFilter(), 10)) == 1
    assert (tmp_path / "traces.db.unreadable").read_bytes().startswith(b"stones")
    store.close()


def test_a_disk_that_refuses_is_said_and_passes(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write([trace()])
    assert store._connection is not None
    store._connection.execute("PRAGMA max_page_count = 1")  # as a disk without room
    big = trace(spans=tuple(span("s", attributes={"n": os.urandom(900).hex()}) for _ in range(50)))
    with pytest.raises(StorageError, match="full"):
        store.write([big])
    store.write([trace()])  # opened anew, and there is room again
    assert len(store.listed(TraceFilter(), 10)) == 2
    store.close()


def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write([trace()])
    assert store.path.stat().st_mode & 0o077 == 0
    store.close()


WRITER = """
import sys
from pathlib import Path
from tests.telemetry.made import trace
from tests.telemetry.test_store import open_store
store = open_store(Path(sys.argv[1]), max_bytes=2_000_000)
while True:
    store.write([trace() for _ in range(50)])
    print("more", flush=True)
"""


def test_killed_in_the_midst_of_writing(tmp_path: Path) -> None:
    num_before = 0
    for _ in range(4):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(5):
                assert process.stdout.readline() == "more\n"
            process.send_signal(signal.SIGKILL)
        with sqlite3.connect(tmp_path / "traces.db") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        store = open_store(tmp_path)
        kept = store.listed(TraceFilter(), 10**6)
        assert len(kept) >= num_before + 5 * 50
        assert len(kept) % 50 == 0, "a batch is there or is not"
        assert all(store.found(each.trace_id)[0][1] for each in kept[:20])
        num_before = len(kept)
        store.close()
