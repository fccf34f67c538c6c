"""Tables of how conversations are kept in order, found and shown. Migrations: the registry's history."""

from typing import Any

from sqlalchemy import JSON, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from cairn.registry import Base


class SearchEntryRow(Base):
    """What a full-text search may find: a message, or without one the title. Its words: `search_terms`."""

    __tablename__ = "search_entries"

    entry_id: Mapped[int] = mapped_column(primary_key=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id"), index=True)
    message_id: Mapped[str | None] = mapped_column(ForeignKey("messages.id"))


class ShareRow(Base):
    """A link to a conversation as it was when the link was made."""

    __tablename__ = "shares"

    share_id: Mapped[str] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id"), index=True)
    user_id: Mapped[str] = mapped_column(index=True)
    audience: Mapped[str]
    """`server`: whoever is signed in; `anyone`: whoever has the link, where the operator allows it."""
    title: Mapped[str]
    model: Mapped[str]
    turns: Mapped[list[Any]] = mapped_column(JSON)
    """`{role, content, sources, created_at}`, first to last."""
    created_at: Mapped[float]
