"""`/v1/batches`: made, watched, listed and cancelled by who made them."""

import time

from fastapi import APIRouter, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from cairn.core.errors import InvalidRequestError, NotFoundError, OverloadedError
from cairn.jobs import JobRow, queue
from cairn.registry.tables import ArtifactUseRow
from cairn.server.auth import Caller
from cairn.server.batches.objects import Batch, BatchList, NewBatch, batch_of
from cairn.server.batches.outcome import input_use
from cairn.server.batches.worker import KIND, key_json
from cairn.server.files.attaching import own_file
from cairn.server.files.paging import Page, list_json, walked
from cairn.server.state import state_of

router = APIRouter(prefix="/v1", tags=["openai"])

_WINDOW = 86_400.0
_MOST_OPEN = 100
"""Batches of one user that have not ended."""


@router.post("/batches")
def create_batch(request: Request, caller: Caller, body: NewBatch) -> Batch:
    """Put a file of requests in line."""
    with state_of(request).registry.database.writing() as session:
        file = own_file(session, body.input_file_id, caller.user_id)
        if file.purpose != "batch":
            raise InvalidRequestError(
                f"the file {file.file_id} has the purpose {file.purpose!r}, allowed: 'batch'",
                remedy="upload it with that purpose",
                param="input_file_id",
            )
        if queue.count_open(session, KIND, caller.user_id) >= _MOST_OPEN:
            raise OverloadedError(
                f"{_MOST_OPEN} batches of yours have not ended",
                remedy="wait for one, or cancel one",
                retry_after=60,
            )
        spec = {
            **body.model_dump(),
            "artifact": file.artifact,
            "metadata": body.metadata or {},
            "key": key_json(caller),
        }
        job = queue.add(session, KIND, caller.user_id, spec, expires_at=time.time() + _WINDOW)
        session.add(ArtifactUseRow(digest=file.artifact, user=input_use(job.job_id)))
    request.app.state.batches.wake()
    return batch_of(job)


@router.get("/batches")
def list_batches(request: Request, caller: Caller, page: Page) -> BatchList:
    """The caller's batches."""
    query = select(JobRow).where(JobRow.kind == KIND, JobRow.owner == caller.user_id)
    with state_of(request).registry.database.session(read_only=True) as session:
        rows, has_more = walked(session, query, JobRow.created_at, JobRow.job_id, page)
        return BatchList(**list_json([batch_of(queue.job_of(row[0])) for row in rows], has_more))


@router.get("/batches/{batch_id}")
def get_batch(request: Request, caller: Caller, batch_id: str) -> Batch:
    """One of the caller's batches, and how far it is."""
    with state_of(request).registry.database.session(read_only=True) as session:
        return batch_of(queue.job_of(_own(session, batch_id, caller.user_id)))


@router.post("/batches/{batch_id}/cancel")
def cancel_batch(request: Request, caller: Caller, batch_id: str) -> Batch:
    """End a batch; what is answered by then is its output."""
    with state_of(request).registry.database.writing() as session:
        row = _own(session, batch_id, caller.user_id)
        queue.cancel(session, row)
        session.flush()
        batch = batch_of(queue.job_of(row))
    request.app.state.batches.wake()
    return batch


def _own(session: Session, batch_id: str, owner: str) -> JobRow:
    row = queue.own_job(session, batch_id, KIND, owner)
    if row is None:
        raise NotFoundError(f"there is no batch {batch_id!r}", remedy="list them: GET /v1/batches")
    return row
