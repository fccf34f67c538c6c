"""Conversations that come back from a file: always as new ones, all or none of them.

What a reply cites stays as open or closed as its documents are to who reads; receipts are kept where they
are the importer's own.
"""

import time
from collections.abc import Collection

from fastapi import APIRouter, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from cairn.core.errors import InvalidRequestError
from cairn.registry.tables import ReceiptRow
from cairn.server.auth import MayConverse
from cairn.server.conversations.calling import calls_json
from cairn.server.conversations.citing import sources_json
from cairn.server.conversations.exchange import ConversationFile, FiledConversation, FiledMessage, Imported
from cairn.server.conversations.owning import new_id
from cairn.server.state import state_of
from cairn.server.tables import ConversationRow, FeedbackRow, FolderRow, MessageRow

router = APIRouter()

_TICK = 1e-6
"""Turns are shown by their time: two of the same moment keep their order."""


@router.post("/conversations/import", status_code=201)
def import_conversations(request: Request, caller: MayConverse, body: ConversationFile) -> Imported:
    """Take conversations from a file that `export` wrote; folders are those of the same names."""
    for at, conversation in enumerate(body.conversations):
        _check_tree(conversation, f"conversations.{at}.messages")
    with state_of(request).registry.database.writing() as session:
        folders = _folders(session, caller.user_id, {each.folder for each in body.conversations} - {""})
        receipts = _own_receipts(session, caller.user_id, body.conversations)
        ids = [
            _import(session, caller.user_id, each, folders.get(each.folder), receipts)
            for each in body.conversations
        ]
    return Imported(conversation_ids=ids, num_messages=sum(len(each.messages) for each in body.conversations))


def _check_tree(conversation: FiledConversation, where: str) -> None:
    known: set[str] = set()
    for at, message in enumerate(conversation.messages):
        if message.id in known:
            raise InvalidRequestError(f"two messages have the id {message.id!r}", param=f"{where}.{at}.id")
        if message.parent_id is not None and message.parent_id not in known:
            raise InvalidRequestError(
                f"no message {message.parent_id!r} stands before {message.id!r}, whose parent it is",
                param=f"{where}.{at}.parent_id",
            )
        known.add(message.id)


def _folders(session: Session, user_id: str, names: Collection[str]) -> dict[str, str]:
    query = select(FolderRow.name, FolderRow.folder_id).where(FolderRow.user_id == user_id)
    found = {row.name: row.folder_id for row in session.execute(query)}
    for name in sorted(set(names) - found.keys()):
        found[name] = new_id("folder")
        session.add(FolderRow(folder_id=found[name], user_id=user_id, name=name, created_at=time.time()))
    session.flush()
    return found


def _own_receipts(
    session: Session, user_id: str, conversations: Collection[FiledConversation]
) -> frozenset[str]:
    named = [each.receipt_id for one in conversations for each in one.messages if each.receipt_id]
    own: set[str] = set()
    for start in range(0, len(named), 500):
        some = ReceiptRow.receipt_id.in_(named[start : start + 500])
        query = select(ReceiptRow.receipt_id).where(some, ReceiptRow.user_id == user_id)
        own.update(session.scalars(query))
    return frozenset(own)


def _import(
    session: Session,
    user_id: str,
    filed: FiledConversation,
    folder_id: str | None,
    receipts: Collection[str],
) -> str:
    now = time.time()
    begun = min(filed.created_at or now, now)
    row = ConversationRow(
        id=new_id("conv"),
        user_id=user_id,
        title=filed.title,
        model=filed.model,
        created_at=begun,
        updated_at=min(filed.updated_at or now, now),
        deleted_at=None,
        folder_id=folder_id,
        indexed_at=None,
    )
    session.add(row)
    session.flush()
    ids: dict[str, str] = {}
    at = begun
    for message in filed.messages:
        ids[message.id] = new_id("msg")
        at = max(min(message.created_at or now, now), at + _TICK)
        parent_id = ids[message.parent_id] if message.parent_id is not None else None
        receipt_id = message.receipt_id if message.receipt_id in receipts else None
        session.add(_message(message, row.id, ids[message.id], parent_id, receipt_id, at))
    session.flush()
    session.add_all(_judgements(filed, ids, user_id, receipts))
    return row.id


def _message(
    message: FiledMessage,
    conversation_id: str,
    message_id: str,
    parent_id: str | None,
    receipt_id: str | None,
    at: float,
) -> MessageRow:
    return MessageRow(
        id=message_id,
        conversation_id=conversation_id,
        parent_id=parent_id,
        role=message.role,
        content=message.content,
        receipt_id=receipt_id,
        sources=sources_json(message.annotations, message.sentences, message.search),
        tool_calls=calls_json(message.tool_calls),
        tool_call_id=message.tool_call_id,
        created_at=at,
    )


def _judgements(
    filed: FiledConversation, ids: dict[str, str], user_id: str, receipts: Collection[str]
) -> list[FeedbackRow]:
    return [
        FeedbackRow(
            id=new_id("fb"),
            user_id=user_id,
            message_id=ids[each.id],
            receipt_id=each.receipt_id if each.receipt_id in receipts else "",
            rating=each.feedback.rating,
            comment=each.feedback.comment,
            created_at=time.time(),
        )
        for each in filed.messages
        if each.feedback is not None
    ]
