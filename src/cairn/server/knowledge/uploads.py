"""Files sent to a collection, and how far they are."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from cairn.core.errors import ConflictError, InvalidRequestError
from cairn.retrieval.access import checked_labels
from cairn.server.auth import Caller
from cairn.server.knowledge.collections import own_collection
from cairn.server.knowledge.intake import State, Upload
from cairn.server.state import state_of

router = APIRouter()

_MOST_NAME_BYTES = 1000
_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


class UploadOut(BaseModel):
    """A file that was sent."""

    upload_id: str
    source: str
    size: int
    state: State
    message: str
    """Of one that failed: why."""
    document_id: str | None
    """Of one that is done."""
    status: str
    """Of the document: `ready`, `partial` or `unreadable`."""
    num_skipped_pages: int


@router.post(
    "/collections/{ref}/uploads",
    name="upload_file",
    status_code=202,
    openapi_extra={"requestBody": {**_BYTES, "required": True}},
)
async def upload(
    request: Request,
    caller: Caller,
    ref: str,
    name: Annotated[str, Query(min_length=1, description="The file's name, or its path in a folder.")],
    label: Annotated[
        list[str] | None, Query(description="Who may see it; otherwise as the collection says.")
    ] = None,
) -> UploadOut:
    """Send a file, its bytes as the body. It takes the place of a document of the same name."""
    state = state_of(request)
    info = await asyncio.to_thread(own_collection, state, ref, caller)
    problem = state.intake.problem()
    if problem:
        raise ConflictError(problem["message"], remedy=problem["remedy"])
    received = await state.intake.receive(
        request.stream(),
        collection_id=info.collection_id,
        user_id=caller.user_id,
        source=_source(name),
        labels=None if label is None else tuple(checked_labels(label)),
    )
    return _upload(received)


@router.get("/collections/{ref}/uploads", name="list_uploads")
def list_uploads(request: Request, caller: Caller, ref: str) -> list[UploadOut]:
    """What the caller sent since the server's start, the oldest first."""
    state = state_of(request)
    info = own_collection(state, ref, caller)
    return [_upload(each) for each in state.intake.uploads(info.collection_id, caller.user_id)]


def _source(name: str) -> str:
    """A name as it is kept: it is only ever shown, and says by its ending what the file is."""
    parts = name.replace("\\", "/").split("/")
    is_plain = all(part.strip() and part not in (".", "..") for part in parts)
    if not is_plain or not name.isprintable() or len(name.encode()) > _MOST_NAME_BYTES:
        raise InvalidRequestError(
            f"name is {name[:80]!r}, allowed: a file's name, or its path in a folder", param="name"
        )
    return "/".join(parts)


def _upload(each: Upload) -> UploadOut:
    document = each.document
    return UploadOut(
        upload_id=each.upload_id,
        source=each.source,
        size=each.size,
        state=each.state,
        message=each.message,
        document_id=document.document_id if document else None,
        status=document.status if document else "",
        num_skipped_pages=len(document.skipped_pages) if document else 0,
    )
