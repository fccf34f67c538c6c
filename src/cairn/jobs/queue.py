"""Jobs in the database: put in line, held, worked on item by item, cancelled, ended."""

import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from cairn.jobs.tables import JobRow, ResultRow

JobState = Literal["waiting", "running", "finishing", "completed", "failed", "cancelled", "expired"]


_LONGEST = 10
"""Times the usual hold: more than the clocks of two machines are apart."""


class Sessions(Protocol):
    """A database, as the registry's is."""

    def session(self, *, read_only: bool = False) -> Session:
        """A session to use in `with`."""
        ...

    def writing(self) -> AbstractContextManager[Session]:
        """A session that writes alone and commits when its block ends well."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it is now."""

    job_id: str
    kind: str
    owner: str
    state: JobState
    spec: dict[str, Any]
    created_at: float
    expires_at: float
    started_at: float | None
    finishing_at: float | None
    cancelled_at: float | None
    ended_at: float | None
    num_items: int
    num_done: int
    num_failed: int
    outcome: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Result:
    """What an item came to."""

    number: int
    value: str
    is_failure: bool = False


def job_of(row: JobRow) -> Job:
    """A row as a value."""
    names = tuple(Job.__dataclass_fields__)
    return Job(**{name: getattr(row, name) for name in names})


def add(session: Session, kind: str, owner: str, spec: dict[str, Any], *, expires_at: float) -> Job:
    """Put a job in line."""
    row = JobRow(
        job_id=f"{kind}_{uuid.uuid4().hex}",
        kind=kind,
        owner=owner,
        state="waiting",
        spec=spec,
        created_at=time.time(),
        expires_at=expires_at,
        num_items=0,
        num_done=0,
        num_failed=0,
        worker="",
        held_until=0.0,
    )
    session.add(row)
    session.flush()
    return job_of(row)


def own_job(session: Session, job_id: str, kind: str, owner: str) -> JobRow | None:
    """A job of that kind and owner; None also when it is another's."""
    row = session.get(JobRow, job_id)
    return row if row is not None and (row.kind, row.owner) == (kind, owner) else None


def hold(database: Sessions, worker: str, kind: str, *, seconds: float, most: int) -> list[Job]:
    """The open jobs that a worker holds from now on: those it held, and the oldest that nobody does."""
    now = time.time()
    is_mine = JobRow.worker == worker
    # A hold longer than any is one of a time when the clock was ahead.
    is_over = (JobRow.held_until < now) | (JobRow.held_until > now + _LONGEST * seconds)
    is_free = (JobRow.worker == "") | is_over
    query = (
        select(JobRow)
        .where(JobRow.kind == kind, JobRow.ended_at.is_(None), is_mine | is_free)
        .order_by(JobRow.created_at, JobRow.job_id)
    )
    with database.session(read_only=True) as session:
        if session.scalars(query.limit(1)).first() is None:
            return []  # nothing to do costs no write
    with database.writing() as session:
        rows = session.scalars(query).all()
        mine = [row for row in rows if row.worker == worker]
        held = [*mine, *(row for row in rows if row.worker != worker)][: max(most, len(mine))]
        for row in held:
            row.worker, row.held_until = worker, now + seconds
        session.flush()
        return [job_of(row) for row in held]


def release(database: Sessions, worker: str) -> None:
    """Hold nothing any more."""
    with database.writing() as session:
        session.execute(update(JobRow).where(JobRow.worker == worker).values(worker="", held_until=0.0))


def start(database: Sessions, job_id: str, num_items: int) -> None:
    """Its items are known."""
    with database.writing() as session:
        row = session.get_one(JobRow, job_id)
        if row.state == "waiting":
            row.state, row.started_at, row.num_items = "running", time.time(), num_items


def record(database: Sessions, job_id: str, result: Result) -> bool:
    """Keep the result of an item; False when there is one, or the job has ended."""
    with database.writing() as session:
        row = session.get_one(JobRow, job_id)
        if row.ended_at is not None or session.get(ResultRow, (job_id, result.number)) is not None:
            return False
        session.add(
            ResultRow(job_id=job_id, number=result.number, is_failure=result.is_failure, value=result.value)
        )
        if result.is_failure:
            row.num_failed += 1
        else:
            row.num_done += 1
    return True


def recorded(session: Session, job_id: str) -> set[int]:
    """The items that have a result."""
    return set(session.scalars(select(ResultRow.number).where(ResultRow.job_id == job_id)))


def results(session: Session, job_id: str) -> Iterator[Result]:
    """All results by number; not held in memory together."""
    query = select(ResultRow).where(ResultRow.job_id == job_id).order_by(ResultRow.number)
    for row in session.scalars(query.execution_options(yield_per=100)):
        yield Result(row.number, row.value, row.is_failure)
        session.expunge(row)


def finishing(database: Sessions, job_id: str) -> None:
    """All items are done; what it comes to is being written."""
    with database.writing() as session:
        row = session.get_one(JobRow, job_id)
        row.state, row.finishing_at = "finishing", row.finishing_at or time.time()


def end(session: Session, job_id: str, state: JobState, outcome: dict[str, Any]) -> bool:
    """End a job in a transaction of the caller's; False when it has ended before."""
    row = session.get_one(JobRow, job_id)
    if row.ended_at is not None:
        return False
    row.state, row.outcome, row.ended_at, row.worker = state, outcome, time.time(), ""
    session.execute(delete(ResultRow).where(ResultRow.job_id == job_id))
    return True


def cancel(session: Session, row: JobRow) -> None:
    """Ask for its end; whoever holds it sees to that."""
    if row.ended_at is None and row.cancelled_at is None:
        row.cancelled_at = time.time()


def count_open(session: Session, kind: str, owner: str) -> int:
    """Jobs of an owner that have not ended."""
    is_open = (JobRow.kind == kind) & (JobRow.owner == owner) & JobRow.ended_at.is_(None)
    return session.scalar(select(func.count()).where(is_open)) or 0


def remaining(num_items: int, done: Collection[int]) -> list[int]:
    """The items without a result, in order."""
    return [number for number in range(num_items) if number not in done]
