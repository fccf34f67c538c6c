"""Collections: listed, made, changed and deleted."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy import select
from starlette.responses import Response

from cairn.core.chat import Principal
from cairn.core.errors import ConflictError, ForbiddenError
from cairn.providers.own_docs import OWN_DOCS
from cairn.registry import Database, Registry
from cairn.retrieval import catalogue
from cairn.retrieval.access import checked_labels, labels_of
from cairn.retrieval.catalogue import CollectionInfo, CollectionStats
from cairn.retrieval.config import CollectionConfig
from cairn.retrieval.documents import relabel_documents
from cairn.retrieval.reading import list_readable, owns, stats_for
from cairn.retrieval.tables import DocumentRow
from cairn.server.auth import MayManageKnowledge, MayReadKnowledge
from cairn.server.body import RequestBody, Strict
from cairn.server.knowledge.own_docs import missing
from cairn.server.state import ServerState, state_of

router = APIRouter()

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Labels = Annotated[list[Annotated[str, StringConstraints(max_length=200)]], Field(max_length=500)]


class CollectionSettings(BaseModel):
    """How a collection cuts, finds and orders; `docs/settings.md` says what each does."""

    chunk_tokens: int
    overlap_tokens: int
    least_confidence: float
    candidates: int
    fusion: Literal["reciprocal", "calibrated"]
    feedback: float
    reranked: int
    diversity: float
    graph: bool | Literal["model"]
    recall_share: float
    least_recall: float
    keep_queries: int


class SettingsChange(Strict):
    """New settings; those about chunks hold for documents that come later."""

    chunk_tokens: int | None = None
    overlap_tokens: int | None = None
    least_confidence: float | None = None
    candidates: int | None = None
    fusion: Literal["reciprocal", "calibrated"] | None = None
    feedback: float | None = None
    reranked: int | None = None
    diversity: float | None = None
    graph: bool | Literal["model"] | None = None
    recall_share: float | None = None
    least_recall: float | None = None
    keep_queries: int | None = None


class NewCollection(RequestBody):
    """A collection to make; without labels its documents are its owner's alone."""

    name: Name
    labels: Labels | None = None


class CollectionChange(RequestBody):
    """What to change."""

    name: Name | None = None
    labels: Labels | None = None
    """Of documents that bring none of their own."""
    for_documents: bool = False
    """Whether the labels are also those of all documents that are there."""
    settings: SettingsChange | None = None


class CollectionOut(BaseModel):
    """A collection with what it holds for the reader."""

    id: str
    ref: str
    """What the reader names it by: its name, or its id where they see another one of that name."""
    name: str
    owner: str
    is_own: bool
    """Whether the reader may put documents in, change and delete it."""
    labels: list[str]
    """Of documents that bring none of their own; for those who do not own it only what they carry."""
    settings: CollectionSettings
    embedder: str
    folders: list[str]
    """Folders of the server that are kept in it; empty for those who do not own it."""
    created_at: float
    num_documents: int
    num_chunks: int
    num_bytes: int
    num_pages: int
    num_skipped_pages: int
    """Below the least confidence: shown, not indexed."""
    num_unreadable: int
    """Documents of which nothing could be read."""


class Preparation(BaseModel):
    """A collection of Cairn's own that is being made."""

    name: str
    done: int
    total: int


class Missing(BaseModel):
    """Why nothing can be put in or found."""

    message: str
    remedy: str


class CollectionList(BaseModel):
    """Collections with something for the reader."""

    collections: list[CollectionOut]
    preparing: Preparation | None
    missing: Missing | None


@router.get("/collections", name="list_collections")
def list_all(request: Request, caller: MayReadKnowledge) -> CollectionList:
    """Collections by name. The first time, Cairn's own documentation becomes one, in the background."""
    state = state_of(request)
    found = list_readable(state.registry.database, caller)
    refs = _refs([info for info, _ in found], caller)
    problem = missing(state.registry)
    state.own_docs.bring()
    preparing = state.own_docs.preparing
    return CollectionList(
        collections=[_collection(info, stats, caller, refs[info.collection_id]) for info, stats in found],
        preparing=Preparation(name=OWN_DOCS, done=preparing[0], total=preparing[1]) if preparing else None,
        missing=Missing(**problem) if problem else None,
    )


@router.post("/collections", name="create_collection", status_code=201)
def create(request: Request, caller: MayManageKnowledge, body: NewCollection) -> CollectionOut:
    """Make a collection, which is its maker's."""
    registry = state_of(request).registry
    made = catalogue.create_collection(registry, body.name, owner=caller.user_id, labels=body.labels)
    return _shown(registry.database, made, caller)


@router.get("/collections/{ref}", name="get_collection")
def get(request: Request, caller: MayReadKnowledge, ref: str) -> CollectionOut:
    """One collection, by name or id."""
    database = state_of(request).registry.database
    info = catalogue.find_visible(database, ref, caller)
    return _shown(database, info, caller)


@router.patch("/collections/{ref}", name="change_collection")
def change(request: Request, caller: MayManageKnowledge, ref: str, body: CollectionChange) -> CollectionOut:
    """Change a collection of one's own."""
    state = state_of(request)
    info = own_collection(state, ref, caller)
    settings = body.settings.model_dump(exclude_none=True) if body.settings else None
    changed = catalogue.change_collection(
        state.registry, info.collection_id, name=body.name, labels=body.labels, config=settings
    )
    if body.labels is not None and body.for_documents:
        _relabel_all(state.registry, changed, body.labels, caller)
    return _shown(state.registry.database, changed, caller)


@router.delete("/collections/{ref}", name="delete_collection", status_code=204)
def delete(request: Request, caller: MayManageKnowledge, ref: str) -> Response:
    """Delete a collection of one's own with all that is in it."""
    state = state_of(request)
    info = own_collection(state, ref, caller)
    state.library.delete(info.collection_id, actor=caller.user_id)
    return Response(status_code=204)


def own_collection(state: ServerState, ref: str, caller: Principal) -> CollectionInfo:
    """A collection that the caller may change."""
    info = catalogue.find_visible(state.registry.database, ref, caller)
    if not owns(info, caller):
        raise ForbiddenError(
            f"{info.name} belongs to {info.owner}", remedy="ask them, or make a collection of your own"
        )
    return info


def shown_labels(labels: Iterable[str], info: CollectionInfo, caller: Principal) -> list[str]:
    """All of them to who owns the collection; to others what they carry, not who else may see it."""
    carried = labels_of(caller)
    return [label for label in labels if owns(info, caller) or label in carried]


def note_access(
    registry: Registry, session: Any, caller: Principal, subject: str, details: Mapping[str, Any]
) -> None:
    """Who may see what is for the audit log."""
    registry.audit.append_in(session, "document.access", caller.user_id, subject, details)


def _relabel_all(registry: Registry, info: CollectionInfo, labels: list[str], caller: Principal) -> None:
    allowed = checked_labels(labels)
    with registry.database.writing() as session:
        query = select(DocumentRow.document_id).where(DocumentRow.collection_id == info.collection_id)
        ids = list(session.scalars(query))
        relabel_documents(session, ids, allowed)
        note_access(registry, session, caller, info.name, {"labels": allowed, "documents": len(ids)})


def _refs(infos: Iterable[CollectionInfo], caller: Principal) -> dict[str, str]:
    """What the reader names collections by, of all they see: an own one always goes by its name."""
    known = list(infos)
    times = Counter(info.name for info in known)
    return {
        info.collection_id: info.name if owns(info, caller) or times[info.name] == 1 else info.collection_id
        for info in known
    }


def _shown(database: Database, info: CollectionInfo, caller: Principal) -> CollectionOut:
    try:
        is_meant = catalogue.find_visible(database, info.name, caller).collection_id == info.collection_id
    except ConflictError:
        is_meant = False
    ref = info.name if is_meant else info.collection_id
    return _collection(info, stats_for(database, info, caller), caller, ref)


def _collection(info: CollectionInfo, stats: CollectionStats, caller: Principal, ref: str) -> CollectionOut:
    is_own = owns(info, caller)
    config: CollectionConfig = info.config
    return CollectionOut(
        id=info.collection_id,
        ref=ref,
        name=info.name,
        owner=info.owner,
        is_own=is_own,
        labels=shown_labels(info.labels, info, caller),
        settings=CollectionSettings(
            **{name: getattr(config, name) for name in CollectionSettings.model_fields}
        ),
        embedder=config.embedder,
        folders=list(config.folders.values()) if is_own else [],
        created_at=info.created_at,
        num_documents=stats.num_documents,
        num_chunks=stats.num_chunks,
        num_bytes=stats.num_bytes,
        num_pages=stats.num_pages,
        num_skipped_pages=stats.num_skipped_pages,
        num_unreadable=stats.num_unreadable,
    )
