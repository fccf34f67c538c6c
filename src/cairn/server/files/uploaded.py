"""`/v1/files`: uploaded, listed, read and deleted by who sent them."""

import asyncio
import shutil
import time
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Query, Request
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse

from cairn.core.errors import InvalidRequestError
from cairn.registry.durable import storage_errors
from cairn.registry.tables import ArtifactUseRow
from cairn.retrieval.documents import discard_artifacts
from cairn.server.auth import MayManageKnowledge, MayReadKnowledge
from cairn.server.files.attaching import CONTENT, clean_filename, new_file_id, own_file, remove_file, use_of
from cairn.server.files.objects import Deleted, FileList, FileObject, Purpose
from cairn.server.files.paging import Order, Walk, list_json, walked
from cairn.server.openai_types import refuse
from cairn.server.state import ServerState, state_of
from cairn.server.tables import FileRow

router = APIRouter()

_PURPOSES: TypeAdapter[Purpose] = TypeAdapter(Purpose)
_FORM = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["file", "purpose"],
            "properties": {
                "file": {"type": "string", "format": "binary"},
                "purpose": {"type": "string", "enum": list(Purpose.__args__)},  # type: ignore[attr-defined]
            },
        }
    }
}


@router.post("/files", openapi_extra={"requestBody": {"content": _FORM, "required": True}})
async def create_file(request: Request, caller: MayManageKnowledge) -> FileObject:
    """Upload a file."""
    state = state_of(request)
    try:
        with storage_errors("cannot keep the file", only_full=True):
            async with request.form(max_files=1, max_fields=8) as form:
                if unknown := sorted(set(form) - {"file", "purpose"}):
                    raise refuse("the form", unknown, "file, purpose")
                file, purpose = form.get("file"), _purpose(form.get("purpose"))
                if not isinstance(file, UploadFile):
                    raise InvalidRequestError("file is missing", remedy="send it in a form", param="file")
                name = clean_filename(file.filename or "")
                row = await asyncio.to_thread(_store, state, caller.user_id, name, purpose, file.file)
    except HTTPException as error:  # of the form's parser
        raise InvalidRequestError(
            f"the body is no form with a file: {error.detail}",
            remedy="send multipart/form-data",
            param="file",
        ) from error
    except ClientDisconnect as error:
        raise InvalidRequestError("the upload broke off", remedy="send the file again") from error
    return _object(row)


@router.get("/files")
def list_files(
    request: Request,
    caller: MayReadKnowledge,
    purpose: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Order = "desc",
    after: str | None = None,
) -> FileList:
    """The caller's files."""
    query = select(FileRow).where(FileRow.owner == caller.user_id, FileRow.collection_id.is_(None))
    if purpose is not None:
        query = query.where(FileRow.purpose == purpose)
    walk = Walk(limit=limit, order=order, after=after)
    with state_of(request).registry.database.session(read_only=True) as session:
        page, has_more = walked(session, query, FileRow.created_at, FileRow.file_id, walk)
        return FileList(**list_json([_object(row[0]) for row in page], has_more))


@router.get("/files/{file_id}")
def get_file(request: Request, caller: MayReadKnowledge, file_id: str) -> FileObject:
    """One of the caller's files."""
    with state_of(request).registry.database.session(read_only=True) as session:
        return _object(own_file(session, file_id, caller.user_id))


@router.get("/files/{file_id}/content", response_class=FileResponse)
def get_file_content(request: Request, caller: MayReadKnowledge, file_id: str) -> FileResponse:
    """The bytes of a file as they came, to be saved."""
    registry = state_of(request).registry
    with registry.database.session(read_only=True) as session:
        row = own_file(session, file_id, caller.user_id)
    path = registry.get(row.artifact).folder / CONTENT
    # Never shown by the browser itself: an HTML file would run as a page of this server.
    return FileResponse(path, media_type="application/octet-stream", filename=row.filename)


@router.delete("/files/{file_id}")
def delete_file(request: Request, caller: MayManageKnowledge, file_id: str) -> Deleted:
    """Delete a file, from every vector store too."""
    registry = state_of(request).registry
    with registry.database.writing() as session:
        freed = remove_file(session, own_file(session, file_id, caller.user_id))
    discard_artifacts(registry, freed)
    return Deleted(id=file_id, object="file")


def _purpose(given: object) -> Purpose:
    try:
        return _PURPOSES.validate_python(given)
    except ValidationError:
        raise refuse("purpose", given, ", ".join(Purpose.__args__)) from None  # type: ignore[attr-defined]


def _store(state: ServerState, owner: str, name: str, purpose: str, file: BinaryIO | Any) -> FileRow:
    registry = state.registry
    with registry.create("file") as writer, (writer.folder / CONTENT).open("wb") as target:
        shutil.copyfileobj(file, target)
    artifact = writer.artifact
    row = FileRow(
        file_id=new_file_id(),
        owner=owner,
        filename=name,
        purpose=purpose,
        size=artifact.size,
        artifact=artifact.digest,
        created_at=time.time(),
    )
    with registry.database.writing() as session:
        session.add(row)
        session.add(ArtifactUseRow(digest=artifact.digest, user=use_of(row.file_id)))
    return row


def _object(row: FileRow) -> FileObject:
    return FileObject(
        id=row.file_id,
        bytes=row.size,
        created_at=int(row.created_at),
        filename=row.filename,
        purpose=row.purpose,
    )
