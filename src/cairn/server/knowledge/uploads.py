"""Files sent to a collection, and how far they are; `files/ingestion.py` works their line off."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from sqlalchemy import func, select

from cairn.core.errors import ConflictError, InvalidRequestError, OverloadedError
from cairn.registry import Registry
from cairn.registry.durable import storage_errors
from cairn.retrieval.access import checked_labels
from cairn.retrieval.catalogue import CollectionInfo
from cairn.retrieval.documents import DocumentInfo
from cairn.server.auth import MayManageKnowledge, MayReadKnowledge
from cairn.server.files.attaching import CONTENT, new_file_id, send
from cairn.server.files.ingestion import Waiting
from cairn.server.knowledge.collections import own_collection
from cairn.server.knowledge.own_docs import missing
from cairn.server.state import ServerState, state_of
from cairn.server.tables import FileRow, VectorStoreFileRow

router = APIRouter()

_MOST_NAME_BYTES = 1000
_MOST_WAITING = 200
_MOST_WAITING_BYTES = 4 << 30
_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


class UploadOut(BaseModel):
    """A file that was sent."""

    upload_id: str
    source: str
    size: int
    state: Literal["waiting", "reading", "indexing", "done", "failed"]
    message: str = ""
    """Of one that failed: why."""
    document_id: str | None = None
    """Of one that is done."""
    status: str = ""
    """Of the document: `ready`, `partial` or `unreadable`."""
    num_skipped_pages: int = 0


@router.post(
    "/collections/{ref}/uploads",
    name="upload_file",
    status_code=202,
    openapi_extra={"requestBody": {**_BYTES, "required": True}},
)
async def upload(
    request: Request,
    caller: MayManageKnowledge,
    ref: str,
    name: Annotated[str, Query(min_length=1, description="The file's name, or its path in a folder.")],
    label: Annotated[
        list[str] | None, Query(description="Who may see it; otherwise as the collection says.")
    ] = None,
) -> UploadOut:
    """Send a file, its bytes as the body. It takes the place of a document of the same name."""
    state = state_of(request)
    info = await asyncio.to_thread(own_collection, state, ref, caller)
    if problem := missing(state.registry):
        raise ConflictError(problem["message"], remedy=problem["remedy"])
    source = _source(name)
    labels = None if label is None else checked_labels(label)
    await asyncio.to_thread(_check_room, state.registry)
    with ExitStack() as closing:
        scratch = await asyncio.to_thread(closing.enter_context, state.registry.store.stage())
        await _receive(request.stream(), scratch / CONTENT)
        sent = await asyncio.to_thread(
            _put_in_line, state.registry, info, caller.user_id, source, labels, scratch / CONTENT
        )
    state.ingestor.wake()
    return UploadOut(upload_id=sent.file_id, source=source, size=sent.size, state="waiting")


@router.get("/collections/{ref}/uploads", name="list_uploads")
def list_uploads(request: Request, caller: MayReadKnowledge, ref: str) -> list[UploadOut]:
    """What the caller sent: on its way, failed, or indexed since the server's start; the oldest first."""
    state = state_of(request)
    info = own_collection(state, ref, caller)
    query = (
        select(VectorStoreFileRow, FileRow)
        .join(FileRow, FileRow.file_id == VectorStoreFileRow.file_id)
        .where(FileRow.collection_id == info.collection_id, FileRow.owner == caller.user_id)
    )
    with state.registry.database.session(read_only=True) as session:
        found = [(row.created_at, _upload(state, row, file)) for row, file in session.execute(query)]
    in_line = {each.upload_id for _, each in found}
    found += [
        (sent.created_at, _done(sent, document))
        for sent, document in list(state.ingestor.done.values())
        if (sent.collection_id, sent.owner) == (info.collection_id, caller.user_id)
        and sent.file_id not in in_line
    ]
    return [each for _, each in sorted(found, key=lambda pair: pair[0])]


def _source(name: str) -> str:
    """A name as it is kept: it is only ever shown, and says by its ending what the file is."""
    parts = name.replace("\\", "/").split("/")
    is_plain = all(part.strip() and part not in (".", "..") for part in parts)
    if not is_plain or not name.isprintable() or len(name.encode()) > _MOST_NAME_BYTES:
        raise InvalidRequestError(
            f"name is {name[:80]!r}, allowed: a file's name, or its path in a folder", param="name"
        )
    return "/".join(parts)


def _check_room(registry: Registry) -> None:
    waiting = select(func.count(), func.sum(FileRow.size)).join(
        VectorStoreFileRow, VectorStoreFileRow.file_id == FileRow.file_id
    )
    waiting = waiting.where(FileRow.collection_id.is_not(None), VectorStoreFileRow.status == "in_progress")
    with registry.database.session(read_only=True) as session:
        num_files, num_bytes = session.execute(waiting).one()
    if num_files >= _MOST_WAITING or (num_bytes or 0) > _MOST_WAITING_BYTES:
        raise OverloadedError(
            f"{num_files} files wait to be read", remedy="send more when some are done", retry_after=5
        )


async def _receive(body: AsyncIterator[bytes], path: Path) -> None:
    with storage_errors("cannot keep the file"), path.open("wb") as file:
        async for part in body:
            await asyncio.to_thread(file.write, part)


def _put_in_line(
    registry: Registry, info: CollectionInfo, owner: str, source: str, labels: list[str] | None, path: Path
) -> FileRow:
    with registry.create("file") as writer:
        os.replace(path, writer.folder / CONTENT)
    file = FileRow(
        file_id=new_file_id(),
        owner=owner,
        filename=source.rsplit("/", 1)[-1],
        purpose="assistants",
        size=writer.artifact.size,
        artifact=writer.artifact.digest,
        collection_id=info.collection_id,
        created_at=time.time(),
    )
    with registry.database.writing() as session:
        send(session, info.collection_id, file, source, labels)
    return file


def _upload(state: ServerState, row: VectorStoreFileRow, file: FileRow) -> UploadOut:
    is_failed = row.status == "failed"
    return UploadOut(
        upload_id=row.file_id,
        source=row.source,
        size=file.size,
        state="failed" if is_failed else state.ingestor.phases.get(row.file_id, "waiting"),
        message=row.error_message,
    )


def _done(sent: Waiting, document: DocumentInfo) -> UploadOut:
    return UploadOut(
        upload_id=sent.file_id,
        source=sent.source,
        size=sent.size,
        state="done",
        document_id=document.document_id,
        status=document.status,
        num_skipped_pages=len(document.skipped_pages),
    )
