"""Attachments as they are stored, and whose they are."""

import time
from collections.abc import Sequence

from pydantic import BaseModel
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from cairn.core.errors import NotFoundError
from cairn.server.conversations.attachments.tables import AttachmentRow
from cairn.server.conversations.owning import owned

_UNSENT_SECONDS = 86_400.0


class AttachmentOut(BaseModel):
    """A file beside a message."""

    id: str
    filename: str
    size: int
    """Bytes of the file."""
    num_pages: int
    num_skipped: int
    """Pages of which nothing could be read."""
    num_tokens: int
    """As the model counts that it was attached for."""


def own_attachment(session: Session, attachment_id: str, user_id: str) -> AttachmentRow:
    """One of this user's; `NotFoundError` also when it is another's, or its conversation is deleted."""
    row = session.get(AttachmentRow, attachment_id)
    if row is None or row.user_id != user_id:
        raise NotFoundError(f"no attachment {attachment_id!r}")
    if row.conversation_id is not None:
        owned(session, row.conversation_id, user_id)
    return row


def claim(session: Session, ids: Sequence[str], conversation_id: str, user_id: str) -> list[AttachmentOut]:
    """Attachments as a message's; from then on they go where its conversation goes."""
    rows = [own_attachment(session, each, user_id) for each in ids]
    for row in rows:
        if row.conversation_id not in (None, conversation_id):
            raise NotFoundError(f"no attachment {row.id!r} in this conversation")
        row.conversation_id = conversation_id
    return [attachment_out(row) for row in rows]


def attachments_of(session: Session, conversation_id: str) -> dict[str, AttachmentOut]:
    """Those of a conversation, by id."""
    query = select(AttachmentRow).where(AttachmentRow.conversation_id == conversation_id)
    return {row.id: attachment_out(row) for row in session.scalars(query)}


def forget_unsent(session: Session, user_id: str) -> None:
    """Delete what a user attached a day ago and never sent."""
    session.execute(
        delete(AttachmentRow).where(
            AttachmentRow.user_id == user_id,
            AttachmentRow.conversation_id.is_(None),
            AttachmentRow.created_at < time.time() - _UNSENT_SECONDS,
        )
    )


def attachment_out(row: AttachmentRow) -> AttachmentOut:
    return AttachmentOut(
        id=row.id,
        filename=row.filename,
        size=row.size,
        num_pages=row.num_pages,
        num_skipped=row.num_skipped,
        num_tokens=row.num_tokens,
    )
