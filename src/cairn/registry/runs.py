"""Runs: every build and stage that was started, what went in, what came out, how it ended.

A running run holds a lock in its folder for as long as its process lives. Whoever opens the registry next
turns runs whose lock has no holder into `interrupted`, so that nothing is `running` for ever. A run of
another machine whose folder is not here is left alone.
"""

import os
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from cairn.core import ConflictError, InvalidRequestError, NotFoundError
from cairn.registry.locks import Hold, take_over
from cairn.registry.tables import ArtifactRow, RunRow

RunStatus = Literal["running", "succeeded", "failed", "interrupted"]
LOCK_NAME = "owner.lock"
_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LOST = "the process ended without finishing the run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A build, or one stage of the build `parent_id`. Times are Unix seconds; `output` is a digest."""

    run_id: str
    recipe: str
    stage: str
    key: str
    status: RunStatus
    started_at: float
    finished_at: float | None
    config: Mapping[str, Any] = field(hash=False)
    inputs: tuple[str, ...]
    output: str | None
    error: str
    parent_id: str | None
    pid: int


def new_run_id() -> str:
    """A fresh id; ids sort by the time they were made."""
    return f"run_{int(time.time() * 1000):011x}{uuid.uuid4().hex[:8]}"


def check_run_id(run_id: str) -> None:
    """`InvalidRequestError` unless it can be an id (it becomes a folder name)."""
    if not _RUN_ID.fullmatch(run_id):
        raise InvalidRequestError(f"{run_id!r} is not a run id", param="run_id")


def start(
    session: Session,
    run_id: str,
    *,
    recipe: str,
    stage: str,
    key: str,
    config: Mapping[str, Any],
    inputs: Sequence[str],
    parent_id: str | None,
) -> Run:
    """Record a run as running."""
    row = RunRow(
        run_id=run_id,
        recipe=recipe,
        stage=stage,
        key=key,
        status="running",
        started_at=time.time(),
        finished_at=None,
        config=dict(config),
        inputs=list(inputs),
        output=None,
        error="",
        parent_id=parent_id,
        pid=os.getpid(),
    )
    session.add(row)
    return to_run(row)


def finish(session: Session, run_id: str, *, status: str, output: str | None, error: str) -> Run:
    """Record how a run ended; `ConflictError` when it had ended before."""
    if status not in ("succeeded", "failed", "interrupted"):
        raise InvalidRequestError(
            f"status is {status!r}, allowed: succeeded, failed, interrupted", param="status"
        )
    row = find(session, run_id)
    if row.status != "running":
        raise ConflictError(f"run {run_id} has ended already ({row.status})", remedy="start a new run")
    row.status, row.output, row.finished_at = status, output, time.time()
    row.error = error.replace("\0", "")  # Postgres stores no NUL
    return to_run(row)


def find(session: Session, run_id: str) -> RunRow:
    """The row of a run, or `NotFoundError`."""
    row = session.get(RunRow, run_id)
    if row is None:
        raise NotFoundError(f"there is no run {run_id}", remedy="list them: cairn runs ls")
    return row


def listing(session: Session, limit: int, parent_id: str | None) -> list[Run]:
    """The newest runs (of a parent), newest first."""
    query = select(RunRow).order_by(RunRow.started_at.desc(), RunRow.run_id.desc()).limit(limit)
    if parent_id is not None:
        query = query.where(RunRow.parent_id == parent_id)
    return [to_run(row) for row in session.scalars(query)]


def last_output(session: Session, key: str) -> str | None:
    """The output of the newest run with this key that succeeded and whose output is still catalogued."""
    query = (
        select(RunRow.output)
        .join(ArtifactRow, ArtifactRow.digest == RunRow.output)
        .where(RunRow.key == key, RunRow.status == "succeeded")
        .order_by(RunRow.finished_at.desc())
        .limit(1)
    )
    return session.scalar(query) if key else None


def running(session: Session) -> list[RunRow]:
    """Rows of the runs that are recorded as running."""
    return list(session.scalars(select(RunRow).where(RunRow.status == "running")))


def abandoned(session: Session, runs_folder: Path) -> dict[str, Hold]:
    """Running runs whose process is gone, with their locks, which are now the caller's to release."""
    found = {}
    for row in running(session):
        if owner := take_over(runs_folder / row.run_id / LOCK_NAME):
            found[row.run_id] = owner
    return found


def interrupt(session: Session, run_ids: Iterable[str]) -> None:
    """Record abandoned runs as interrupted."""
    for run_id in run_ids:
        row = find(session, run_id)
        if row.status == "running":
            row.status, row.finished_at, row.error = "interrupted", time.time(), _LOST


def to_run(row: RunRow) -> Run:
    """A row as a `Run`."""
    status: Any = row.status
    return Run(
        run_id=row.run_id,
        recipe=row.recipe,
        stage=row.stage,
        key=row.key,
        status=status,
        started_at=row.started_at,
        finished_at=row.finished_at,
        config=row.config,
        inputs=tuple(row.inputs),
        output=row.output,
        error=row.error,
        parent_id=row.parent_id,
        pid=row.pid,
    )
