"""Conversations of the page: a tree of messages per conversation, feedback, soft deletion.

Every query names the user; somebody else's conversation answers 404, as one that does not exist. A reply
keeps what it cites; what a document said is left out once the document is closed to the user, or gone.
"""

import time
import uuid
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from cairn.core.chat import Principal
from cairn.core.errors import InvalidRequestError, NotFoundError
from cairn.registry import Registry
from cairn.retrieval.access import labels_of, may_see
from cairn.retrieval.tables import DocumentRow
from cairn.server.auth import Caller
from cairn.server.body import RequestBody
from cairn.server.openai_types import FileCitation, SentenceCheck
from cairn.server.state import state_of
from cairn.server.tables import ConversationRow, FeedbackRow, MessageRow

router = APIRouter(prefix="/api", tags=["conversations"])

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
_UNTITLED = "New conversation"
_MAX_LISTED = 500


class NewConversation(RequestBody):
    """A conversation to begin."""

    title: Title = _UNTITLED
    model: Annotated[str, StringConstraints(max_length=200)] = ""


class TitleChange(RequestBody):
    """A new title."""

    title: Title


class NewMessage(RequestBody):
    """A turn to store; an edit is a new message with the same parent."""

    role: Literal["system", "user", "assistant"]
    content: str
    parent_id: str | None = None
    receipt_id: str | None = None
    annotations: Annotated[list[FileCitation], Field(max_length=100)] | None = None
    sentences: Annotated[list[SentenceCheck], Field(max_length=10_000)] | None = None


class NewFeedback(RequestBody):
    """A judgement of a reply; 0 takes it back."""

    message_id: str
    receipt_id: str = ""
    rating: Literal[1, 0, -1]
    comment: Annotated[str, StringConstraints(max_length=10_000)] = ""


class Feedback(BaseModel):
    """A stored judgement."""

    rating: int
    comment: str


class StoredCitation(FileCitation):
    """What a stored reply cites."""

    is_open: bool
    """Whether the document is there and open to the user; the quote is empty if not."""


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
    created_at: float


class ConversationSummary(BaseModel):
    """A line of the list of conversations."""

    id: str
    title: str
    updated_at: float
    model: str


class Conversation(ConversationSummary):
    """A conversation with all its messages, oldest first."""

    messages: list[MessageOut]


@router.get("/conversations")
def list_conversations(request: Request, caller: Caller) -> list[ConversationSummary]:
    """The caller's conversations, the latest first."""
    query = (
        select(ConversationRow)
        .where(ConversationRow.user_id == caller.user_id, ConversationRow.deleted_at.is_(None))
        .order_by(ConversationRow.updated_at.desc())
        .limit(_MAX_LISTED)
    )
    with state_of(request).registry.database.session(read_only=True) as session:
        return [_summary(row) for row in session.scalars(query)]


@router.post("/conversations", status_code=201)
def create_conversation(request: Request, caller: Caller, body: NewConversation) -> Conversation:
    """Begin a conversation."""
    now = time.time()
    row = ConversationRow(
        id=_new_id("conv"),
        user_id=caller.user_id,
        title=body.title,
        model=body.model,
        created_at=now,
        updated_at=now,
        deleted_at=None,
    )
    with state_of(request).registry.database.session() as session, session.begin():
        session.add(row)
        return Conversation(**_summary(row).model_dump(), messages=[])


@router.get("/conversations/{conversation_id}")
def get_conversation(request: Request, caller: Caller, conversation_id: str) -> Conversation:
    """A conversation with its messages."""
    with state_of(request).registry.database.session(read_only=True) as session:
        row = _owned(session, conversation_id, caller.user_id)
        return _with_messages(session, row, caller)


@router.patch("/conversations/{conversation_id}")
def rename_conversation(
    request: Request, caller: Caller, conversation_id: str, body: TitleChange
) -> ConversationSummary:
    """Give a conversation another title."""
    with state_of(request).registry.database.session() as session, session.begin():
        row = _owned(session, conversation_id, caller.user_id)
        row.title = body.title
        return _summary(row)


@router.delete("/conversations/{conversation_id}", status_code=204)
def delete_conversation(request: Request, caller: Caller, conversation_id: str) -> Response:
    """Hide a conversation; `restore` brings it back."""
    with state_of(request).registry.database.session() as session, session.begin():
        _owned(session, conversation_id, caller.user_id).deleted_at = time.time()
    return Response(status_code=204)


@router.post("/conversations/{conversation_id}/restore")
def restore_conversation(request: Request, caller: Caller, conversation_id: str) -> ConversationSummary:
    """Undo a deletion."""
    with state_of(request).registry.database.session() as session, session.begin():
        row = _owned(session, conversation_id, caller.user_id, with_deleted=True)
        row.deleted_at = None
        return _summary(row)


@router.post("/conversations/{conversation_id}/messages", status_code=201)
def add_message(request: Request, caller: Caller, conversation_id: str, body: NewMessage) -> MessageOut:
    """Store a turn under its parent."""
    state = state_of(request)
    if body.receipt_id:
        _check_receipt(state.registry, body.receipt_id, caller.user_id)
    row = MessageRow(
        id=_new_id("msg"),
        conversation_id=conversation_id,
        parent_id=body.parent_id,
        role=body.role,
        content=body.content,
        receipt_id=body.receipt_id or None,
        sources=_sources(body),
        created_at=time.time(),
    )
    with state.registry.database.session() as session, session.begin():
        conversation = _owned(session, conversation_id, caller.user_id)
        if body.parent_id is not None:
            parent = session.get(MessageRow, body.parent_id)
            if parent is None or parent.conversation_id != conversation_id:
                raise InvalidRequestError(
                    f"no message {body.parent_id!r} in this conversation", param="parent_id"
                )
        conversation.updated_at = row.created_at
        session.add(row)
        return _message(row, None, _open_documents(session, [row], caller))


@router.post("/feedback")
def give_feedback(request: Request, caller: Caller, body: NewFeedback) -> Feedback:
    """Store a judgement of one's own conversation's reply, with the receipt that made it."""
    with state_of(request).registry.database.session() as session, session.begin():
        message = session.get(MessageRow, body.message_id)
        if message is None:
            raise NotFoundError(f"no message {body.message_id!r}")
        _owned(session, message.conversation_id, caller.user_id)
        if body.receipt_id and body.receipt_id != message.receipt_id:
            raise InvalidRequestError(
                f"message {message.id!r} was not made by receipt {body.receipt_id!r}", param="receipt_id"
            )
        query = select(FeedbackRow).where(FeedbackRow.message_id == message.id)
        row = session.scalars(query).one_or_none()
        if row is None:
            row = FeedbackRow(id=_new_id("fb"), user_id=caller.user_id, message_id=message.id)
            session.add(row)
        row.receipt_id = message.receipt_id or ""
        row.rating, row.comment, row.created_at = body.rating, body.comment, time.time()
        return Feedback(rating=row.rating, comment=row.comment)


def _check_receipt(registry: Registry, receipt_id: str, user_id: str) -> None:
    """One's own receipt, or one that is not stored yet: that of a reply stopped a moment ago may still be."""
    try:
        owner = registry.receipt(receipt_id).user_id
    except NotFoundError:
        return
    if owner != user_id:
        raise NotFoundError(f"no receipt {receipt_id!r}")


def _owned(
    session: Session, conversation_id: str, user_id: str, *, with_deleted: bool = False
) -> ConversationRow:
    row = session.get(ConversationRow, conversation_id)
    if row is None or row.user_id != user_id or (row.deleted_at is not None and not with_deleted):
        raise NotFoundError(f"no conversation {conversation_id!r}")
    return row


def _with_messages(session: Session, row: ConversationRow, caller: Principal) -> Conversation:
    query = select(MessageRow).where(MessageRow.conversation_id == row.id).order_by(MessageRow.created_at)
    messages = list(session.scalars(query))
    judged = (
        select(FeedbackRow)
        .join(MessageRow, FeedbackRow.message_id == MessageRow.id)
        .where(MessageRow.conversation_id == row.id)
    )
    feedback = {found.message_id: found for found in session.scalars(judged)}
    are_open = _open_documents(session, messages, caller)
    return Conversation(
        **_summary(row).model_dump(),
        messages=[_message(message, feedback.get(message.id), are_open) for message in messages],
    )


def _open_documents(session: Session, messages: Sequence[MessageRow], caller: Principal) -> set[str]:
    """Documents that replies cite, of those that are open to the caller now."""
    cited = {each["document_id"] for row in messages for each in _cited(row)}
    if not cited:
        return set()
    query = select(DocumentRow.document_id, DocumentRow.labels).where(DocumentRow.document_id.in_(cited))
    carried = labels_of(caller)
    return {row.document_id for row in session.execute(query) if may_see(row.labels, carried)}


def _sources(body: NewMessage) -> dict[str, Any] | None:
    annotations = [each.model_dump() for each in body.annotations or []]
    sentences = [each.model_dump() for each in body.sentences or []]
    return {"annotations": annotations, "sentences": sentences} if annotations or sentences else None


def _cited(row: MessageRow) -> list[dict[str, Any]]:
    return row.sources["annotations"] if row.sources else []


def _summary(row: ConversationRow) -> ConversationSummary:
    return ConversationSummary(id=row.id, title=row.title, updated_at=row.updated_at, model=row.model)


def _message(row: MessageRow, feedback: FeedbackRow | None, are_open: Collection[str]) -> MessageOut:
    return MessageOut(
        id=row.id,
        role=row.role,
        content=row.content,
        parent_id=row.parent_id,
        receipt_id=row.receipt_id,
        feedback=Feedback(rating=feedback.rating, comment=feedback.comment) if feedback else None,
        annotations=[_citation(each, each["document_id"] in are_open) for each in _cited(row)],
        sentences=row.sources["sentences"] if row.sources else [],
        created_at=row.created_at,
    )


def _citation(cited: dict[str, Any], is_open: bool) -> StoredCitation:
    said = {} if is_open else {"quote": "", "heading": []}
    return StoredCitation(**cited | said, is_open=is_open)


def _new_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"
