"""`/v1/vector_stores/{id}/file_batches`: files that are put into a vector store together."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy import update
from sqlalchemy.orm import Session
from starlette.responses import Response

from cairn.core.errors import InvalidRequestError, NotFoundError
from cairn.server.auth import MayManageKnowledge, MayReadKnowledge
from cairn.server.files.attaching import attach
from cairn.server.files.listing import page_of_files, totals
from cairn.server.files.objects import FileBatch, NewBatch, NewStoreFile, Status, VectorStoreFileList
from cairn.server.files.paging import Page
from cairn.server.files.store_files import POLL, page_of
from cairn.server.files.stores import own_store
from cairn.server.state import state_of
from cairn.server.tables import VectorStoreFileRow

router = APIRouter()


@router.post("/vector_stores/{store_id}/file_batches")
def create_file_batch(
    request: Request, caller: MayManageKnowledge, store_id: str, body: NewBatch
) -> FileBatch:
    """Put many uploaded files into a vector store at once."""
    state = state_of(request)
    info = own_store(state, store_id, caller)
    files = _files(body)
    batch_id = f"vsfb_{uuid.uuid4().hex[:24]}"
    with state.registry.database.writing() as session:
        attach(session, info.collection_id, caller.user_id, files, batch_id=batch_id)
        made = _batch(session, info.collection_id, batch_id)
    state.ingestor.wake()
    return made


@router.get("/vector_stores/{store_id}/file_batches/{batch_id}")
def get_file_batch(
    request: Request, response: Response, caller: MayReadKnowledge, store_id: str, batch_id: str
) -> FileBatch:
    """A batch, and how many of its files are done."""
    state = state_of(request)
    info = own_store(state, store_id, caller)
    response.headers.update(POLL)
    with state.registry.database.session(read_only=True) as session:
        return _batch(session, info.collection_id, batch_id)


@router.post("/vector_stores/{store_id}/file_batches/{batch_id}/cancel")
def cancel_file_batch(
    request: Request, caller: MayManageKnowledge, store_id: str, batch_id: str
) -> FileBatch:
    """Leave out what was not indexed yet."""
    state = state_of(request)
    info = own_store(state, store_id, caller)
    with state.registry.database.writing() as session:
        _batch(session, info.collection_id, batch_id)
        waiting = (
            (VectorStoreFileRow.collection_id == info.collection_id)
            & (VectorStoreFileRow.batch_id == batch_id)
            & (VectorStoreFileRow.status == "in_progress")
        )
        session.execute(update(VectorStoreFileRow).where(waiting).values(status="cancelled"))
        session.expire_all()
        return _batch(session, info.collection_id, batch_id)


@router.get("/vector_stores/{store_id}/file_batches/{batch_id}/files")
def list_file_batch_files(
    request: Request,
    caller: MayReadKnowledge,
    store_id: str,
    batch_id: str,
    walk: Page,
    status: Annotated[Status | None, Query(alias="filter")] = None,
) -> VectorStoreFileList:
    """The files of a batch."""
    state = state_of(request)
    info = own_store(state, store_id, caller)
    with state.registry.database.session(read_only=True) as session:
        _batch(session, info.collection_id, batch_id)
        return page_of(*page_of_files(session, info.collection_id, walk, status=status, batch_id=batch_id))


def _files(body: NewBatch) -> list[NewStoreFile]:
    if (body.file_ids is None) == (body.files is None):
        raise InvalidRequestError("a batch has file_ids or files, one of them", param="file_ids")
    if body.files is not None:
        found = body.files
    else:
        given = {"attributes": body.attributes, "chunking_strategy": body.chunking_strategy}
        found = [NewStoreFile.model_validate({"file_id": each, **given}) for each in body.file_ids or ()]
    if not found:
        raise InvalidRequestError("a batch has at least one file", param="file_ids")
    return found


def _batch(session: Session, collection_id: str, batch_id: str) -> FileBatch:
    together = totals(session, collection_id, batch_id=batch_id)
    found = together.counts
    if not found.total:
        raise NotFoundError(f"there is no batch {batch_id!r} in {collection_id}")
    status: Status = "completed"
    if found.in_progress:
        status = "in_progress"
    elif found.cancelled:
        status = "cancelled"
    elif found.failed == found.total:
        status = "failed"
    return FileBatch(
        id=batch_id,
        created_at=int(together.created_at),
        vector_store_id=collection_id,
        status=status,
        file_counts=found,
    )
