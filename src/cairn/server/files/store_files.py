"""`/v1/vector_stores/{id}/files`: files put into a vector store, and what became of them."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from cairn.core.errors import ConflictError, ForbiddenError
from cairn.retrieval.document_files import parse_of
from cairn.retrieval.documents import discard_artifacts, remove_documents
from cairn.retrieval.reading import find_document, reads
from cairn.server.auth import MayManageKnowledge, MayReadKnowledge
from cairn.server.files.attaching import attach, detach
from cairn.server.files.listing import StoreFile, page_of_files, store_file
from cairn.server.files.objects import (
    AttributesChange,
    ContentPage,
    Deleted,
    LastError,
    NewStoreFile,
    OtherChunking,
    StaticChunking,
    StaticSizes,
    Status,
    TextContent,
    VectorStoreFile,
    VectorStoreFileList,
)
from cairn.server.files.paging import Page, list_json
from cairn.server.files.stores import own_store
from cairn.server.filters import Scalar
from cairn.server.state import state_of
from cairn.server.tables import VectorStoreFileRow

router = APIRouter()

POLL = {"openai-poll-after-ms": "200"}
"""How soon a client that waits may ask again."""


@router.post("/vector_stores/{store_id}/files")
def create_vector_store_file(
    request: Request, caller: MayManageKnowledge, store_id: str, body: NewStoreFile
) -> VectorStoreFile:
    """Put an uploaded file into a vector store; it is read and indexed in the background."""
    state = state_of(request)
    info = own_store(state, store_id, caller)
    with state.registry.database.writing() as session:
        attach(session, info.collection_id, caller.user_id, [body])
        found = store_file(session, info.collection_id, body.file_id)
    state.ingestor.wake()
    return _object(found)


@router.get("/vector_stores/{store_id}/files")
def list_vector_store_files(
    request: Request,
    caller: MayReadKnowledge,
    store_id: str,
    walk: Page,
    status: Annotated[Status | None, Query(alias="filter")] = None,
) -> VectorStoreFileList:
    """The files of a vector store, documents that came in otherwise among them."""
    state = state_of(request)
    info = own_store(state, store_id, caller)
    with state.registry.database.session(read_only=True) as session:
        return page_of(*page_of_files(session, info.collection_id, walk, status=status))


def page_of(files: list[StoreFile], has_more: bool) -> VectorStoreFileList:
    """Files as a page of a list."""
    return VectorStoreFileList(**list_json([_object(each) for each in files], has_more))


@router.get("/vector_stores/{store_id}/files/{file_id}")
def get_vector_store_file(
    request: Request, response: Response, caller: MayReadKnowledge, store_id: str, file_id: str
) -> VectorStoreFile:
    """One of them."""
    state = state_of(request)
    info = own_store(state, store_id, caller)
    response.headers.update(POLL)
    with state.registry.database.session(read_only=True) as session:
        return _object(store_file(session, info.collection_id, file_id))


@router.post("/vector_stores/{store_id}/files/{file_id}")
def change_vector_store_file(
    request: Request, caller: MayManageKnowledge, store_id: str, file_id: str, body: AttributesChange
) -> VectorStoreFile:
    """Say what a file is, for filters."""
    state = state_of(request)
    info = own_store(state, store_id, caller)
    with state.registry.database.writing() as session:
        store_file(session, info.collection_id, file_id)
        row = session.get(VectorStoreFileRow, (info.collection_id, file_id))
        if row is None:
            raise ConflictError(
                f"{file_id} was not uploaded as a file and has no attributes",
                remedy="upload it to /v1/files, and put it in",
            )
        row.attributes = dict(body.attributes or {})
        session.flush()
        return _object(store_file(session, info.collection_id, file_id))


@router.delete("/vector_stores/{store_id}/files/{file_id}")
def delete_vector_store_file(
    request: Request, caller: MayManageKnowledge, store_id: str, file_id: str
) -> Deleted:
    """Take a file out of a vector store; the uploaded one stays."""
    state = state_of(request)
    info = own_store(state, store_id, caller)
    with state.registry.database.writing() as session:
        found = store_file(session, info.collection_id, file_id)
        row = session.get(VectorStoreFileRow, (info.collection_id, file_id))
        freed = remove_documents(session, [found.document_id]) if row is None else detach(session, [row])
    discard_artifacts(state.registry, freed)
    return Deleted(id=file_id, object="vector_store.file.deleted")


@router.get("/vector_stores/{store_id}/files/{file_id}/content")
def get_vector_store_file_content(
    request: Request, caller: MayReadKnowledge, store_id: str, file_id: str
) -> ContentPage:
    """What was read from a file, a part for each page."""
    state = state_of(request)
    info = own_store(state, store_id, caller)
    database = state.registry.database
    with database.session(read_only=True) as session:
        found = store_file(session, info.collection_id, file_id)
    document = find_document(database, info, found.document_id, caller)
    if not reads(document, caller):
        raise ForbiddenError(f"{document.source} is not open to {caller.user_id}")
    parsed = parse_of(state.registry, document)
    data = parsed.text.encode()
    texts = [data[slice(*page.span)].decode() for page in parsed.pages]
    return ContentPage(data=[TextContent(text=text) for text in texts])


def _object(each: StoreFile) -> VectorStoreFile:
    attributes: dict[str, Scalar] = each.attributes
    error = None
    if each.error_code:
        error = LastError.model_validate({"code": each.error_code, "message": each.error_message})
    return VectorStoreFile.model_validate(
        {
            "id": each.file_id,
            "created_at": int(each.created_at),
            "vector_store_id": each.collection_id,
            "status": each.status,
            "last_error": error,
            "usage_bytes": each.size,
            "attributes": attributes,
            "chunking_strategy": StaticChunking(static=StaticSizes(**each.chunking))
            if each.chunking
            else OtherChunking(),
        }
    )
