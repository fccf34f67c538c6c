"""Documents of a collection: listed, read as passages or as text, given to others, deleted."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import FileResponse, Response

from cairn.core.chat import Principal
from cairn.core.errors import ForbiddenError, InvalidRequestError
from cairn.core.retrieval import Passage
from cairn.retrieval.access import checked_labels, labels_of
from cairn.retrieval.catalogue import CollectionInfo, find_visible
from cairn.retrieval.document_files import original_of, parse_of
from cairn.retrieval.documents import (
    DocumentInfo,
    discard_artifacts,
    find_documents,
    relabel_documents,
    remove_documents,
)
from cairn.retrieval.passages import chunks_of
from cairn.retrieval.reading import find_document, page_of_documents, reads
from cairn.retrieval.tables import DocumentRow
from cairn.server.auth import MayManageKnowledge, MayReadKnowledge
from cairn.server.body import RequestBody
from cairn.server.knowledge.collections import Labels, note_access, own_collection, shown_labels
from cairn.server.state import ServerState, state_of

router = APIRouter()

_MOST_TEXT = 200_000
Offset = Annotated[int, Query(ge=0)]
Limit = Annotated[int, Query(ge=1, le=500)]


class PageProblem(BaseModel):
    """What is wrong with a page."""

    kind: str
    page: int
    message: str
    is_indexed: bool
    """Whether the page is found all the same."""


class DocumentOut(BaseModel):
    """A document as it stands in a list."""

    id: str
    source: str
    """Path in the folder it came from, or the name of the upload."""
    title: str
    media_type: str
    size: int
    labels: list[str]
    """Who may see it; for those who do not own the collection only what opens it to them."""
    is_readable: bool
    """Whether the reader may see what it says; its collection's owner may see only that it is there."""
    status: str
    """`ready`; `partial`: some pages are not indexed; `unreadable`: none is."""
    problems: list[PageProblem]
    num_pages: int
    skipped_pages: list[int]
    updated_at: float


class DocumentList(BaseModel):
    """A part of the documents that fit."""

    documents: list[DocumentOut]
    total: int


class AccessChange(RequestBody):
    """Who may see a document from now on."""

    labels: Labels


class Chunk(BaseModel):
    """A passage of a document."""

    chunk_id: int
    text: str
    start: int
    """Of the document's text, in UTF-8 bytes, as `end`."""
    end: int
    page: int
    heading: list[str]
    """Headings above it, the outermost first."""


class ChunkList(BaseModel):
    """Passages in their order, from number `offset` on."""

    chunks: list[Chunk]
    offset: int
    total: int


class DocumentText(BaseModel):
    """A part of a document's parsed text, as far as whole characters go."""

    text: str
    start: int
    """In UTF-8 bytes, as `end` and `total`."""
    end: int
    total: int


@router.get("/collections/{ref}/documents", name="list_documents")
def list_all(
    request: Request,
    caller: MayReadKnowledge,
    ref: str,
    q: str = "",
    status: str = "",
    offset: Offset = 0,
    limit: Limit = 100,
) -> DocumentList:
    """Documents by source: those whose source or title holds the words of `q` and that have the status."""
    database = state_of(request).registry.database
    info = find_visible(database, ref, caller)
    page = page_of_documents(database, info, caller, words=q, status=status, offset=offset, limit=limit)
    return DocumentList(
        documents=[_document(info, each, caller) for each in page.documents], total=page.total
    )


@router.get("/collections/{ref}/documents/{document_id}", name="get_document")
def get(request: Request, caller: MayReadKnowledge, ref: str, document_id: str) -> DocumentOut:
    """One document."""
    return _document(*_found(state_of(request), ref, document_id, caller), caller)


@router.patch("/collections/{ref}/documents/{document_id}", name="change_access")
def change_access(
    request: Request, caller: MayManageKnowledge, ref: str, document_id: str, body: AccessChange
) -> DocumentOut:
    """Say who may see a document of one's own collection."""
    state = state_of(request)
    info = own_collection(state, ref, caller)
    document = find_document(state.registry.database, info, document_id, caller)
    allowed = checked_labels(body.labels)
    with state.registry.database.writing() as session:
        relabel_documents(session, [document_id], allowed)
        note_access(state.registry, session, caller, f"{info.name}/{document.source}", {"labels": allowed})
        (changed,) = find_documents(session, DocumentRow.document_id == document_id)
    return _document(info, changed, caller)


@router.delete("/collections/{ref}/documents/{document_id}", name="delete_document", status_code=204)
def delete(request: Request, caller: MayManageKnowledge, ref: str, document_id: str) -> Response:
    """Delete a document from a collection of one's own."""
    state = state_of(request)
    info = own_collection(state, ref, caller)
    document = find_document(state.registry.database, info, document_id, caller)
    with state.registry.database.writing() as session:
        freed = remove_documents(session, [document_id])
        state.registry.audit.append_in(
            session, "document.delete", caller.user_id, f"{info.name}/{document.source}"
        )
    discard_artifacts(state.registry, freed)
    return Response(status_code=204)


@router.get("/collections/{ref}/documents/{document_id}/chunks", name="list_chunks")
def chunks(
    request: Request,
    caller: MayReadKnowledge,
    ref: str,
    document_id: str,
    around: Annotated[int | None, Query(description="Begin so that this passage is in the middle.")] = None,
    offset: Offset = 0,
    limit: Limit = 100,
) -> ChunkList:
    """The passages of a document."""
    state = state_of(request)
    info, document = _readable(state, ref, document_id, caller)
    with state.registry.database.session(read_only=True) as session:
        found = chunks_of(session, info.collection_id, document.document_id, labels_of(caller))
    places = [place for place, passage in enumerate(found) if passage.chunk_id == around]
    if places:
        offset = max(0, places[0] - limit // 2)
    return ChunkList(
        chunks=[_chunk(each) for each in found[offset : offset + limit]], offset=offset, total=len(found)
    )


@router.get("/collections/{ref}/documents/{document_id}/text", name="get_document_text")
def text(
    request: Request,
    caller: MayReadKnowledge,
    ref: str,
    document_id: str,
    page: Annotated[int | None, Query(ge=1, description="Of this page alone.")] = None,
    start: Offset = 0,
    end: Annotated[int | None, Query(ge=0)] = None,
) -> DocumentText:
    """What was read from a document, also from pages that are not indexed; at most 200,000 bytes."""
    state = state_of(request)
    _, document = _readable(state, ref, document_id, caller)
    parsed = parse_of(state.registry, document)
    data = parsed.text.encode()
    if page is not None:
        spans = [each.span for each in parsed.pages if each.number == page]
        if not spans:
            raise InvalidRequestError(f"page is {page}, allowed: 1 to {len(parsed.pages)}", param="page")
        start, end = spans[0]
    start = min(start, len(data))
    end = min(len(data) if end is None else end, start + _MOST_TEXT, len(data))
    while start < end and data[start] & 0xC0 == 0x80:
        start += 1
    part = data[start:end].decode(errors="ignore")
    return DocumentText(text=part, start=start, end=start + len(part.encode()), total=len(data))


@router.get(
    "/collections/{ref}/documents/{document_id}/original", name="get_original", response_class=FileResponse
)
def original(request: Request, caller: MayReadKnowledge, ref: str, document_id: str) -> FileResponse:
    """A document's file as it came, to be saved."""
    state = state_of(request)
    _, document = _readable(state, ref, document_id, caller)
    path = original_of(state.registry, document)
    # Never shown by the browser itself: an HTML file would run as a page of this server.
    return FileResponse(
        path, media_type="application/octet-stream", filename=document.source.rsplit("/", 1)[-1]
    )


def _found(
    state: ServerState, ref: str, document_id: str, caller: Principal
) -> tuple[CollectionInfo, DocumentInfo]:
    database = state.registry.database
    info = find_visible(database, ref, caller)
    return info, find_document(database, info, document_id, caller)


def _readable(
    state: ServerState, ref: str, document_id: str, caller: Principal
) -> tuple[CollectionInfo, DocumentInfo]:
    info, document = _found(state, ref, document_id, caller)
    if not reads(document, caller):
        raise ForbiddenError(
            f"{document.source} is not open to {caller.user_id}",
            remedy=f"allow user:{caller.user_id} to see it",
        )
    return info, document


def _document(collection: CollectionInfo, info: DocumentInfo, caller: Principal) -> DocumentOut:
    problems = [
        PageProblem(
            kind=each.kind,
            page=each.page,
            message=each.message,
            is_indexed=each.page not in info.skipped_pages,
        )
        for each in info.problems
    ]
    return DocumentOut(
        id=info.document_id,
        source=info.source,
        title=info.title,
        media_type=info.media_type,
        size=info.size,
        labels=shown_labels(info.labels, collection, caller),
        is_readable=reads(info, caller),
        status=info.status,
        problems=problems,
        num_pages=info.num_pages,
        skipped_pages=list(info.skipped_pages),
        updated_at=info.updated_at,
    )


def _chunk(passage: Passage) -> Chunk:
    start, end = passage.span
    return Chunk(
        chunk_id=passage.chunk_id,
        text=passage.text,
        start=start,
        end=end,
        page=passage.page,
        heading=list(passage.heading_path),
    )
