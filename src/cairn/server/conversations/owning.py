"""Whose a conversation or a folder is."""

import uuid

from sqlalchemy.orm import Session

from cairn.core.errors import NotFoundError
from cairn.server.tables import ConversationRow, FolderRow


def owned(
    session: Session, conversation_id: str, user_id: str, *, with_deleted: bool = False
) -> ConversationRow:
    """A conversation of this user's; `NotFoundError` also when it is another's."""
    row = session.get(ConversationRow, conversation_id)
    if row is None or row.user_id != user_id or (row.deleted_at is not None and not with_deleted):
        raise NotFoundError(f"no conversation {conversation_id!r}")
    return row


def owned_folder(session: Session, folder_id: str, user_id: str) -> FolderRow:
    """A folder of this user's; `NotFoundError` also when it is another's."""
    row = session.get(FolderRow, folder_id)
    if row is None or row.user_id != user_id:
        raise NotFoundError(f"no folder {folder_id!r}")
    return row


def new_id(kind: str) -> str:
    """A fresh id, such as `conv_…`."""
    return f"{kind}_{uuid.uuid4().hex}"
