"""`/v1/vector_stores`: collections, made, listed, changed, deleted and searched."""

import re
import time
import uuid
from typing import Literal

from fastapi import APIRouter, Request
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from cairn.core.chat import Principal
from cairn.core.errors import ConflictError, ForbiddenError, NotFoundError
from cairn.registry import Registry
from cairn.retrieval.catalogue import CollectionInfo, create_collection, find_visible, sees
from cairn.retrieval.reading import owns
from cairn.retrieval.tables import CollectionRow
from cairn.server.auth import MayManageKnowledge, MayReadKnowledge
from cairn.server.files.attaching import attach
from cairn.server.files.housekeeping import is_expired
from cairn.server.files.listing import totals
from cairn.server.files.objects import (
    Deleted,
    ExpiresAfter,
    FileCounts,
    NewStoreFile,
    NewVectorStore,
    SearchBody,
    SearchPage,
    VectorStore,
    VectorStoreChange,
    VectorStoreList,
)
from cairn.server.files.paging import Page, list_json, walked
from cairn.server.state import ServerState, state_of
from cairn.server.streaming import answer
from cairn.server.tables import VectorStoreRow

router = APIRouter()

_DAY = 86400.0
_UNFIT = re.compile(r"[^\w .-]+")
_SELDOM = 60.0
"""Seconds within which a use is not noted again."""


@router.post("/vector_stores")
def create_vector_store(request: Request, caller: MayManageKnowledge, body: NewVectorStore) -> VectorStore:
    """Make a vector store, which is its maker's, and put files into it."""
    state = state_of(request)
    info = _new_collection(state.registry, body.name or "", caller)
    try:
        with state.registry.database.writing() as session:
            session.add(
                VectorStoreRow(
                    collection_id=info.collection_id,
                    name=body.name or "",
                    description=body.description or "",
                    labels=dict(body.metadata or {}),
                    expires_days=body.expires_after.days if body.expires_after else None,
                    last_active_at=time.time(),
                )
            )
            files = [
                NewStoreFile(file_id=each, chunking_strategy=body.chunking_strategy) for each in body.file_ids
            ]
            attach(session, info.collection_id, caller.user_id, files)
            made = _store(session, session.get_one(CollectionRow, info.collection_id))
    except NotFoundError:
        state.library.delete(info.collection_id, actor=caller.user_id)
        raise
    if body.file_ids:
        state.ingestor.wake()
    return made


@router.get("/vector_stores")
def list_vector_stores(request: Request, caller: MayReadKnowledge, walk: Page) -> VectorStoreList:
    """Vector stores that the caller may search."""
    with state_of(request).registry.database.session(read_only=True) as session:
        rows = session.scalars(select(CollectionRow)).all()
        seen = [row.collection_id for row in rows if sees(session, row, caller)]
        query = select(CollectionRow).where(CollectionRow.collection_id.in_(seen))
        page, has_more = walked(session, query, CollectionRow.created_at, CollectionRow.collection_id, walk)
        return VectorStoreList(**list_json([_store(session, row[0]) for row in page], has_more))


@router.get("/vector_stores/{store_id}")
def get_vector_store(request: Request, caller: MayReadKnowledge, store_id: str) -> VectorStore:
    """One of them, by id or name."""
    database = state_of(request).registry.database
    info = find_visible(database, store_id, caller)
    with database.session(read_only=True) as session:
        return _store(session, session.get_one(CollectionRow, info.collection_id))


@router.post("/vector_stores/{store_id}")
def change_vector_store(
    request: Request, caller: MayManageKnowledge, store_id: str, body: VectorStoreChange
) -> VectorStore:
    """Change the name, what is kept with it, or when it expires."""
    state = state_of(request)
    info = own_store(state, store_id, caller)
    with state.registry.database.writing() as session:
        row = _kept(session, info)
        if body.name is not None:
            row.name = body.name
        if body.metadata is not None:
            row.labels = dict(body.metadata)
        if "expires_after" in body.model_fields_set:
            row.expires_days = body.expires_after.days if body.expires_after else None
        row.last_active_at = time.time()
        session.flush()
        return _store(session, session.get_one(CollectionRow, info.collection_id))


@router.delete("/vector_stores/{store_id}")
def delete_vector_store(request: Request, caller: MayManageKnowledge, store_id: str) -> Deleted:
    """Delete a vector store; uploaded files stay."""
    state = state_of(request)
    info = own_store(state, store_id, caller)
    state.library.delete(info.collection_id, actor=caller.user_id)
    return Deleted(id=info.collection_id, object="vector_store.deleted")


@router.post("/vector_stores/{store_id}/search", response_model=SearchPage)
async def search_vector_store(
    request: Request, caller: MayReadKnowledge, store_id: str, body: SearchBody
) -> Response:
    """Passages that answer a query, of what the caller may see."""
    from cairn.server.files.searching import search_store  # noqa: PLC0415 - a server may never need it

    state = state_of(request)
    return await answer(search_store(state, caller, store_id, body), request, config=state.config, headers={})


def own_store(state: ServerState, ref: str, caller: Principal) -> CollectionInfo:
    """A vector store that the caller may change."""
    info = find_visible(state.registry.database, ref, caller)
    if not owns(info, caller):
        raise ForbiddenError(
            f"{info.name} belongs to {info.owner}", remedy="ask them, or make a vector store of your own"
        )
    return info


def note_use(registry: Registry, info: CollectionInfo) -> None:
    """Count a search as a use, from which the time to its end runs; `NotFoundError` when that has come."""
    with registry.database.session(read_only=True) as session:
        row = session.get(VectorStoreRow, info.collection_id)
    if row is None or row.expires_days is None:
        return
    if is_expired(row):
        raise NotFoundError(
            f"vector store {info.collection_id} expired {row.expires_days} days after its last use",
            remedy="it is deleted soon, unless its expires_after is changed now",
        )
    if time.time() - row.last_active_at > _SELDOM:
        with registry.database.writing() as session:
            _kept(session, info).last_active_at = time.time()


def _new_collection(registry: Registry, name: str, caller: Principal) -> CollectionInfo:
    """A collection of the name or one like it: an owner's collections differ in name, stores need not."""
    plain = _UNFIT.sub(" ", name)[:80].strip(" ._-") or "vector store"
    try:
        return create_collection(registry, plain, owner=caller.user_id)
    except ConflictError:
        return create_collection(registry, f"{plain} {uuid.uuid4().hex[:8]}", owner=caller.user_id)


def _status(kept: VectorStoreRow | None, found: FileCounts) -> Literal["expired", "in_progress", "completed"]:
    if kept is not None and is_expired(kept):
        return "expired"
    return "in_progress" if found.in_progress else "completed"


def _kept(session: Session, info: CollectionInfo) -> VectorStoreRow:
    """What is kept of a store, made when there is nothing yet."""
    row = session.get(VectorStoreRow, info.collection_id)
    if row is None:
        row = VectorStoreRow(
            collection_id=info.collection_id,
            name=info.name,
            description="",
            labels={},
            expires_days=None,
            last_active_at=time.time(),
        )
        session.add(row)
    return row


def _store(session: Session, row: CollectionRow) -> VectorStore:
    kept = session.get(VectorStoreRow, row.collection_id)
    together = totals(session, row.collection_id)
    found = together.counts
    last_active_at = kept.last_active_at if kept else row.created_at
    days = kept.expires_days if kept else None
    return VectorStore(
        id=row.collection_id,
        created_at=int(row.created_at),
        name=kept.name if kept else row.name,
        description=kept.description if kept else "",
        usage_bytes=together.num_bytes,
        file_counts=found,
        status=_status(kept, found),
        expires_after=ExpiresAfter(anchor="last_active_at", days=days) if days else None,
        expires_at=int(last_active_at + days * _DAY) if days else None,
        last_active_at=int(last_active_at),
        metadata=kept.labels if kept else {},
    )
