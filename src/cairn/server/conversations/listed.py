"""Conversations: listed, begun, read, renamed, put into folders, deleted and brought back."""

import time
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, StringConstraints
from sqlalchemy import or_, select
from starlette.responses import Response

from cairn.server.auth import MayConverse
from cairn.server.body import RequestBody
from cairn.server.conversations.indexing import forget, outdate
from cairn.server.conversations.messages import MessageOut, messages_of
from cairn.server.conversations.owning import new_id, owned, owned_folder
from cairn.server.conversations.sharing import end_links
from cairn.server.conversations.tables import ShareRow
from cairn.server.state import state_of
from cairn.server.tables import ConversationRow

router = APIRouter()

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
_UNTITLED = "New conversation"
_MAX_LISTED = 500


class NewConversation(RequestBody):
    """A conversation to begin."""

    title: Title = _UNTITLED
    model: Annotated[str, StringConstraints(max_length=200)] = ""


class ConversationChange(RequestBody):
    """What is given is changed."""

    title: Title | None = None
    folder_id: str | None = None
    """Null: into no folder."""


class ConversationSummary(BaseModel):
    """A line of the list of conversations."""

    id: str
    title: str
    updated_at: float
    model: str
    folder_id: str | None


class Conversation(ConversationSummary):
    """A conversation with all its messages, oldest first."""

    messages: list[MessageOut]


@router.get("/conversations")
def list_conversations(request: Request, caller: MayConverse) -> list[ConversationSummary]:
    """The caller's conversations, the latest first: those in folders, and the last 500 besides."""
    own = ConversationRow.user_id == caller.user_id, ConversationRow.deleted_at.is_(None)
    latest = (
        select(ConversationRow.id)
        .where(*own, ConversationRow.folder_id.is_(None))
        .order_by(ConversationRow.updated_at.desc())
        .limit(_MAX_LISTED)
    )
    is_listed = or_(ConversationRow.folder_id.is_not(None), ConversationRow.id.in_(latest))
    query = select(ConversationRow).where(*own, is_listed).order_by(ConversationRow.updated_at.desc())
    with state_of(request).registry.database.session(read_only=True) as session:
        return [_summary(row) for row in session.scalars(query)]


@router.post("/conversations", status_code=201)
def create_conversation(request: Request, caller: MayConverse, body: NewConversation) -> Conversation:
    """Begin a conversation."""
    now = time.time()
    row = ConversationRow(
        id=new_id("conv"),
        user_id=caller.user_id,
        title=body.title,
        model=body.model,
        created_at=now,
        updated_at=now,
        deleted_at=None,
        folder_id=None,
        indexed_at=None,
    )
    with state_of(request).registry.database.session() as session, session.begin():
        session.add(row)
        return Conversation(**_summary(row).model_dump(), messages=[])


@router.get("/conversations/{conversation_id}")
def get_conversation(request: Request, caller: MayConverse, conversation_id: str) -> Conversation:
    """A conversation with its messages."""
    with state_of(request).registry.database.session(read_only=True) as session:
        row = owned(session, conversation_id, caller.user_id)
        messages = messages_of(session, conversation_id, caller)
        return Conversation(**_summary(row).model_dump(), messages=messages)


@router.patch("/conversations/{conversation_id}")
def change_conversation(
    request: Request, caller: MayConverse, conversation_id: str, body: ConversationChange
) -> ConversationSummary:
    """Give a conversation another title, or put it into a folder or out of it."""
    with state_of(request).registry.database.session() as session, session.begin():
        row = owned(session, conversation_id, caller.user_id)
        if body.title is not None:
            row.title = body.title
            outdate(session, conversation_id)
        if "folder_id" in body.model_fields_set:
            if body.folder_id is not None:
                owned_folder(session, body.folder_id, caller.user_id)
            row.folder_id = body.folder_id
        return _summary(row)


@router.delete("/conversations/{conversation_id}", status_code=204)
def delete_conversation(request: Request, caller: MayConverse, conversation_id: str) -> Response:
    """Hide a conversation; `restore` brings it back. Links to it end, and no search finds it."""
    state = state_of(request)
    with state.registry.database.writing() as session:
        row = owned(session, conversation_id, caller.user_id)
        row.deleted_at = time.time()
        end_links(session, state.registry.audit, caller, ShareRow.conversation_id == conversation_id)
        forget(session, row)
    return Response(status_code=204)


@router.post("/conversations/{conversation_id}/restore")
def restore_conversation(request: Request, caller: MayConverse, conversation_id: str) -> ConversationSummary:
    """Undo a deletion."""
    with state_of(request).registry.database.session() as session, session.begin():
        row = owned(session, conversation_id, caller.user_id, with_deleted=True)
        row.deleted_at = None
        return _summary(row)


def _summary(row: ConversationRow) -> ConversationSummary:
    return ConversationSummary(
        id=row.id, title=row.title, updated_at=row.updated_at, model=row.model, folder_id=row.folder_id
    )
