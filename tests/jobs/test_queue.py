"""The queue: who holds a job, what is kept of its items, and how it ends."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from cairn.core import Settings
from cairn.jobs import Job, JobRow, Result, ResultRow, queue
from cairn.registry import Database, Registry

FAR = 1e12


@pytest.fixture
def database(registry: Registry) -> Database:
    return registry.database


def add(database: Database, owner: str = "ann") -> Job:
    with database.writing() as session:
        return queue.add(session, "batch", owner, {"a": 1}, expires_at=FAR)


def held(database: Database, worker: str, most: int = 10) -> list[str]:
    return [job.job_id for job in queue.hold(database, worker, "batch", seconds=60, most=most)]


def let_go(database: Database) -> None:
    """As if the time of all who hold something had passed."""
    with database.writing() as session:
        session.execute(update(JobRow).values(held_until=1.0))


def test_a_job_is_held_by_one(database: Database) -> None:
    first, second = add(database).job_id, add(database).job_id
    assert held(database, "a", most=1) == [first]
    assert held(database, "b") == [second]
    assert held(database, "a") == [first]
    let_go(database)
    assert held(database, "b") == [second, first]
    assert held(database, "a") == []
    queue.release(database, "b")
    assert held(database, "a") == [first, second]
    assert queue.hold(database, "a", "another kind", seconds=60, most=10) == []


def test_a_job_goes_its_way(database: Database) -> None:
    job = add(database)
    assert (job.state, job.num_items) == ("waiting", 0)
    queue.start(database, job.job_id, 3)
    queue.start(database, job.job_id, 99)  # by one who took over: it is known
    assert queue.record(database, job.job_id, Result(1, "one"))
    assert not queue.record(database, job.job_id, Result(1, "another"))
    assert queue.record(database, job.job_id, Result(0, "none", is_failure=True))
    queue.finishing(database, job.job_id)
    with database.session(read_only=True) as session:
        assert queue.recorded(session, job.job_id) == {0, 1}
        found = list(queue.results(session, job.job_id))
    assert found == [Result(0, "none", is_failure=True), Result(1, "one")]
    assert queue.remaining(3, {0, 1}) == [2]
    with database.writing() as session:
        assert queue.end(session, job.job_id, "completed", {"b": 2})
        assert not queue.end(session, job.job_id, "failed", {})
    assert not queue.record(database, job.job_id, Result(2, "late"))
    with database.session(read_only=True) as session:
        row = queue.own_job(session, job.job_id, "batch", "ann")
        assert row is not None
        assert queue.job_of(row).outcome == {"b": 2}
        assert (row.state, row.num_items, row.num_done, row.num_failed) == ("completed", 3, 1, 1)
        assert session.query(ResultRow).count() == 0
        assert queue.own_job(session, job.job_id, "batch", "bob") is None
        assert queue.count_open(session, "batch", "ann") == 0
    assert held(database, "a") == []


def test_to_cancel_is_a_wish_once(database: Database) -> None:
    job = add(database)
    for _ in range(2):
        with database.writing() as session:
            row = session.get_one(JobRow, job.job_id)
            queue.cancel(session, row)
            first = row.cancelled_at
    assert first is not None
    [again] = queue.hold(database, "a", "batch", seconds=60, most=1)
    assert again.cancelled_at == first


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.booleans()), max_size=20))
def test_whoever_works_every_item_counts_once(work: list[tuple[str, int, bool]]) -> None:
    with TemporaryDirectory() as folder, Registry.open(Settings(home=Path(folder))) as registry:
        database = registry.database
        job = add(database)
        queue.start(database, job.job_id, 6)
        first: dict[int, Any] = {}
        for worker, number, is_failure in work:
            let_go(database)
            assert held(database, worker) == [job.job_id]
            is_new = queue.record(database, job.job_id, Result(number, f'"{worker}"', is_failure))
            assert is_new == (number not in first)
            first.setdefault(number, Result(number, f'"{worker}"', is_failure))
        with database.session(read_only=True) as session:
            assert list(queue.results(session, job.job_id)) == [first[number] for number in sorted(first)]
            row = session.get_one(JobRow, job.job_id)
            assert row.num_done + row.num_failed == len(first)
            assert row.num_failed == sum(each.is_failure for each in first.values())


def test_a_hold_of_a_clock_that_was_ahead_is_none(database: Database) -> None:
    job_id = add(database).job_id
    assert held(database, "one") == [job_id]
    assert held(database, "two") == []
    with database.writing() as session:  # as it is once a clock that was an hour ahead has been put right
        session.execute(update(JobRow).values(held_until=JobRow.held_until + 3600))
    assert held(database, "two") == [job_id]
