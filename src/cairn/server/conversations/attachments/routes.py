"""`/api/attachments`: a file is read, counted, and kept or refused."""

import asyncio
import mimetypes
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from cairn.core.errors import ConflictError, ContextLengthError, InvalidRequestError
from cairn.data.parsing import ParsedDocument, parse_in_child
from cairn.registry.durable import storage_errors
from cairn.server.auth import MayConverse
from cairn.server.conversations.attachments.kept import (
    AttachmentOut,
    attachment_out,
    forget_unsent,
    own_attachment,
)
from cairn.server.conversations.attachments.tables import AttachmentRow
from cairn.server.conversations.owning import new_id
from cairn.server.files.attaching import CONTENT, clean_filename
from cairn.server.identity.permissions import require_model
from cairn.server.state import state_of

router = APIRouter()

_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


class AttachmentText(AttachmentOut):
    """An attachment with what the model is given of it."""

    text: str


@router.post("/attachments", status_code=201, openapi_extra={"requestBody": {**_BYTES, "required": True}})
async def attach(
    request: Request,
    caller: MayConverse,
    name: Annotated[str, Query(min_length=1, description="The file's name.")],
    model: Annotated[str, Query(min_length=1, description="Who is asked: it counts the tokens.")],
    beside: Annotated[int, Query(ge=0, description="Tokens of other files of the same message.")] = 0,
) -> AttachmentOut:
    """Read a file, its bytes as the body, for a message; at most half of what the model reads at once."""
    require_model(caller, model)
    state = state_of(request)
    filename = clean_filename(name)
    kind = mimetypes.guess_type(filename)[0] or ""
    if kind.startswith("image/"):
        raise InvalidRequestError(
            f"{filename} is an image, and no model here takes images",
            remedy="attach a document: its text is read",
            param="name",
        )
    with ExitStack() as closing:
        scratch = await asyncio.to_thread(closing.enter_context, state.registry.store.stage())
        path = scratch / CONTENT
        with storage_errors("cannot keep the file"), path.open("wb") as file:
            async for part in request.stream():
                await asyncio.to_thread(file.write, part)
        size = path.stat().st_size
        document = await asyncio.to_thread(_read, path, filename)
    async with state.models.use(model) as provider:
        budget = max(provider.context_length // 2 - beside, 0)
        # Hardly a token is longer than this: what is far too long is not even counted.
        is_hopeless = len(document.text) > 64 * budget
        num_tokens = 0 if is_hopeless else await asyncio.to_thread(provider.count_tokens, document.text)
    if is_hopeless or num_tokens > budget:
        left = " and the other files" if beside else ""
        has = f"more than {budget:,}" if is_hopeless else f"{num_tokens:,}"
        raise ContextLengthError(
            f"{filename} has {has} tokens, allowed beside a message to {model}{left}: {budget:,}",
            remedy="add it to a collection under Knowledge and ask that: what matters is found there",
            param="name",
        )
    row = AttachmentRow(
        id=new_id("att"),
        user_id=caller.user_id,
        conversation_id=None,
        filename=filename,
        size=size,
        num_pages=len(document.pages),
        num_skipped=sum(1 for page in document.pages if page.confidence == 0),
        num_tokens=num_tokens,
        text=document.text,
        created_at=time.time(),
    )
    with state.registry.database.session() as session, session.begin():
        forget_unsent(session, caller.user_id)
        session.add(row)
        return attachment_out(row)


@router.get("/attachments/{attachment_id}")
def get_attachment(request: Request, caller: MayConverse, attachment_id: str) -> AttachmentText:
    """One of the caller's attachments with its text."""
    with state_of(request).registry.database.session(read_only=True) as session:
        row = own_attachment(session, attachment_id, caller.user_id)
        return AttachmentText(**attachment_out(row).model_dump(), text=row.text)


@router.delete("/attachments/{attachment_id}", status_code=204)
def detach(request: Request, caller: MayConverse, attachment_id: str) -> Response:
    """Take away what was not sent yet."""
    with state_of(request).registry.database.session() as session, session.begin():
        row = own_attachment(session, attachment_id, caller.user_id)
        if row.conversation_id is not None:
            raise ConflictError(
                f"{row.filename} stands beside a message", remedy="delete the conversation, and it goes too"
            )
        session.delete(row)
    return Response(status_code=204)


def _read(path: Path, name: str) -> ParsedDocument:
    """The text of a file; `InvalidRequestError` where there is none."""
    document = parse_in_child(path, name)
    if document.text.strip():
        return document
    problems = [problem.message for page in document.pages for problem in page.problems]
    raise InvalidRequestError(
        f"nothing could be read from {name}: {problems[0] if problems else 'it has no text'}",
        remedy="attach a document with text",
        param="name",
    )
