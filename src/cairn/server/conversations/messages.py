"""The turns of conversations. They form a tree: an edit or another reply stands beside the one before."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from cairn.core.chat import Principal
from cairn.core.errors import InvalidRequestError, NotFoundError
from cairn.registry import Registry
from cairn.server.auth import MayConverse
from cairn.server.body import RequestBody
from cairn.server.conversations.attachments.kept import AttachmentOut, attachments_of, claim
from cairn.server.conversations.calling import Calling, calls_json, calls_of
from cairn.server.conversations.citing import (
    StoredCitation,
    StoredSearch,
    checks,
    citations,
    open_documents,
    search_of,
    sources_json,
)
from cairn.server.conversations.feedback import Feedback, feedback_of
from cairn.server.conversations.indexing import outdate
from cairn.server.conversations.owning import new_id, owned
from cairn.server.openai_types import FileCitation, SearchDone, SentenceCheck, ToolCallSpec
from cairn.server.state import state_of
from cairn.server.tables import MessageRow

router = APIRouter()


class NewMessage(RequestBody, Calling):
    """A turn to store; an edit is a new message with the same parent."""

    parent_id: str | None = None
    receipt_id: str | None = None
    annotations: Annotated[list[FileCitation], Field(max_length=100)] | None = None
    sentences: Annotated[list[SentenceCheck], Field(max_length=10_000)] | None = None
    search: SearchDone | None = None
    attachments: Annotated[list[str], Field(max_length=16)] | None = None


class MessageOut(BaseModel):
    """A stored turn."""

    id: str
    role: str
    content: str
    parent_id: str | None
    receipt_id: str | None
    feedback: Feedback | None
    annotations: list[StoredCitation]
    sentences: list[SentenceCheck]
    search: StoredSearch | None
    tool_calls: list[ToolCallSpec]
    tool_call_id: str | None
    attachments: list[AttachmentOut]
    created_at: float


@router.post("/conversations/{conversation_id}/messages", status_code=201)
def add_message(request: Request, caller: MayConverse, conversation_id: str, body: NewMessage) -> MessageOut:
    """Store a turn under its parent."""
    state = state_of(request)
    if body.receipt_id:
        _check_receipt(state.registry, body.receipt_id, caller.user_id)
    row = MessageRow(
        id=new_id("msg"),
        conversation_id=conversation_id,
        parent_id=body.parent_id,
        role=body.role,
        content=body.content,
        receipt_id=body.receipt_id or None,
        sources=sources_json(body.annotations, body.sentences, body.search),
        tool_calls=calls_json(body.tool_calls),
        tool_call_id=body.tool_call_id,
        attachments=body.attachments or None,
        created_at=time.time(),
    )
    with state.registry.database.session() as session, session.begin():
        conversation = owned(session, conversation_id, caller.user_id)
        if body.parent_id is not None:
            parent = session.get(MessageRow, body.parent_id)
            if parent is None or parent.conversation_id != conversation_id:
                raise InvalidRequestError(
                    f"no message {body.parent_id!r} in this conversation", param="parent_id"
                )
        conversation.updated_at = row.created_at
        attached = claim(session, row.attachments or [], conversation_id, caller.user_id)
        outdate(session, conversation_id)
        session.add(row)
        are_open = open_documents(session, [row.sources], caller)
        return _message(row, None, are_open, {each.id: each for each in attached})


def messages_of(session: Session, conversation_id: str, caller: Principal) -> list[MessageOut]:
    """All turns of a conversation, oldest first."""
    rows = turns_of(session, conversation_id)
    feedback = feedback_of(session, conversation_id)
    are_open = open_documents(session, [row.sources for row in rows], caller)
    attached = attachments_of(session, conversation_id)
    return [_message(row, feedback.get(row.id), are_open, attached) for row in rows]


def turns_of(session: Session, conversation_id: str) -> list[MessageRow]:
    """The rows of a conversation, oldest first."""
    query = (
        select(MessageRow)
        .where(MessageRow.conversation_id == conversation_id)
        .order_by(MessageRow.created_at)
    )
    return list(session.scalars(query))


def line_of(rows: Sequence[MessageRow], message_id: str | None) -> list[MessageRow]:
    """The turns from the first to this one; without one, the newest at every fork, as the page shows them."""
    by_id = {row.id: row for row in rows}
    if message_id is None:
        newest = {row.parent_id: row.id for row in rows}
        while (following := newest.get(message_id)) is not None:
            message_id = following
        if message_id is None:
            return []
    elif message_id not in by_id:
        raise NotFoundError(f"no message {message_id!r} in this conversation")
    line = []
    at: str | None = message_id
    while at is not None:
        line.append(by_id[at])
        at = by_id[at].parent_id
    return line[::-1]


def _check_receipt(registry: Registry, receipt_id: str, user_id: str) -> None:
    """One's own receipt, or one that is not stored yet: that of a reply stopped a moment ago may still be."""
    try:
        owner = registry.receipt(receipt_id).user_id
    except NotFoundError:
        return
    if owner != user_id:
        raise NotFoundError(f"no receipt {receipt_id!r}")


def _message(
    row: MessageRow,
    feedback: Feedback | None,
    are_open: Collection[str],
    attached: Mapping[str, AttachmentOut],
) -> MessageOut:
    return MessageOut(
        id=row.id,
        role=row.role,
        content=row.content,
        parent_id=row.parent_id,
        receipt_id=row.receipt_id,
        feedback=feedback,
        annotations=citations(row.sources, are_open),
        sentences=checks(row.sources),
        search=search_of(row.sources, are_open),
        tool_calls=calls_of(row.tool_calls),
        tool_call_id=row.tool_call_id,
        attachments=[attached[each] for each in row.attachments or [] if each in attached],
        created_at=row.created_at,
    )
