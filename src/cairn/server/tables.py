"""Tables of the server: who may sign in, what was said, which files came. Migrations: the registry's history.

Secrets (keys, links, sessions) are stored as SHA-256 only. They are 256 random bits, so a
slow password hash would add nothing. Times are Unix seconds.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from cairn.registry import Base


class UserRow(Base):
    """A person or program with its own conversations."""

    __tablename__ = "users"

    user_id: Mapped[str] = mapped_column(primary_key=True)
    roles: Mapped[list[str]]
    display_name: Mapped[str]
    email: Mapped[str | None] = mapped_column(unique=True)
    """In small letters; signs in like the id."""
    password_hash: Mapped[str | None]
    disabled_at: Mapped[float | None]
    created_at: Mapped[float]


class GroupRow(Base):
    """People who may see the same: documents are opened to `group:NAME`."""

    __tablename__ = "groups"

    name: Mapped[str] = mapped_column(primary_key=True)
    description: Mapped[str]
    created_at: Mapped[float]


class MembershipRow(Base):
    """A person in a group."""

    __tablename__ = "memberships"

    group_name: Mapped[str] = mapped_column(ForeignKey("groups.name", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"), primary_key=True, index=True)


class KeyRow(Base):
    """An API key; `key_id` is its public part."""

    __tablename__ = "keys"

    key_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"), index=True)
    name: Mapped[str]
    secret_hash: Mapped[str]
    old_secret_hash: Mapped[str | None]
    """The one before the last rotation, good until `old_expires_at`."""
    old_expires_at: Mapped[float | None]
    scopes: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """Permissions it is narrowed to; null: all of its owner's."""
    models: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """Names of models it is for; null: all."""
    created_at: Mapped[float]
    expires_at: Mapped[float | None]
    last_used_at: Mapped[float | None]
    """To a minute."""
    revoked_at: Mapped[float | None]


class SignInTokenRow(Base):
    """A one-time sign-in link."""

    __tablename__ = "sign_in_tokens"

    token_hash: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"))
    expires_at: Mapped[float]


class SessionRow(Base):
    """A browser that is signed in."""

    __tablename__ = "sessions"

    session_hash: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[str] = mapped_column(unique=True)
    """What it is called where it is listed; signs nobody in."""
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"), index=True)
    address: Mapped[str]
    agent: Mapped[str]
    """The browser, as it called itself."""
    created_at: Mapped[float]
    last_seen_at: Mapped[float]
    """To a minute."""
    idle_seconds: Mapped[float]
    """How long it lasts unused."""
    expires_at: Mapped[float] = mapped_column(index=True)
    """Moves on while it is used, up to `ends_at`."""
    ends_at: Mapped[float]


class DeviceRow(Base):
    """A browser in which somebody signed in by password before."""

    __tablename__ = "devices"

    device_hash: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"), primary_key=True)
    created_at: Mapped[float]


class ExternalLoginRow(Base):
    """Who an account is at an identity provider."""

    __tablename__ = "external_logins"

    issuer: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.user_id"), index=True)


class FolderRow(Base):
    """A folder of one person's conversations."""

    __tablename__ = "folders"

    folder_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    created_at: Mapped[float]


class ConversationRow(Base):
    """A conversation of one user; `deleted_at` hides it until it is restored."""

    __tablename__ = "conversations"
    __table_args__ = (Index("ix_conversations_user_updated", "user_id", "updated_at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str]
    title: Mapped[str]
    model: Mapped[str]
    created_at: Mapped[float]
    updated_at: Mapped[float]
    deleted_at: Mapped[float | None]
    folder_id: Mapped[str | None] = mapped_column(ForeignKey("folders.folder_id"), index=True)
    indexed_at: Mapped[float | None]
    """When its words were brought into the search; null: something is new since."""


class MessageRow(Base):
    """A turn. Messages form a tree: an edit or a regenerated reply is a sibling under the same parent."""

    __tablename__ = "messages"

    id: Mapped[str] = mapped_column(primary_key=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id"), index=True)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("messages.id"))
    role: Mapped[str]
    content: Mapped[str] = mapped_column(Text)
    receipt_id: Mapped[str | None]
    sources: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Of a reply from collections: `annotations`, `sentences` and `search`, as the chat gave them."""
    tool_calls: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    """Of a reply: the calls of tools that it makes."""
    tool_call_id: Mapped[str | None]
    """Of what a tool gave: the call that it answers."""
    attachments: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """Ids of the files that stand beside it."""
    created_at: Mapped[float]


class FeedbackRow(Base):
    """What a user thought of a reply, kept with the receipt that made it."""

    __tablename__ = "feedback"

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str]
    message_id: Mapped[str] = mapped_column(ForeignKey("messages.id"), unique=True)
    receipt_id: Mapped[str] = mapped_column(index=True)
    rating: Mapped[int]
    comment: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float]


class PreferenceRow(Base):
    """Which of two answers a user thought better, by the receipts that made them."""

    __tablename__ = "preferences"

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(index=True)
    chosen: Mapped[str] = mapped_column(index=True)
    rejected: Mapped[str] = mapped_column(index=True)
    created_at: Mapped[float]


class FileRow(Base):
    """A file that a user uploaded; an artifact holds its bytes."""

    __tablename__ = "files"

    file_id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(index=True)
    filename: Mapped[str]
    purpose: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    artifact: Mapped[str] = mapped_column(ForeignKey("artifacts.digest"), index=True)
    collection_id: Mapped[str | None]
    """Of one that was sent into a collection: it is gone when it is indexed, or its collection is."""
    created_at: Mapped[float]


class VectorStoreRow(Base):
    """What the API keeps of a collection besides what the collection is."""

    __tablename__ = "vector_stores"

    collection_id: Mapped[str] = mapped_column(
        ForeignKey("collections.collection_id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str]
    """As it was given: unlike a collection's it may be empty, or that of another one."""
    description: Mapped[str] = mapped_column(Text)
    labels: Mapped[dict[str, Any]]
    """OpenAI's `metadata`."""
    expires_days: Mapped[int | None]
    """After its last use."""
    last_active_at: Mapped[float]


class VectorStoreFileRow(Base):
    """A file in a collection, or on its way there."""

    __tablename__ = "vector_store_files"
    __table_args__ = (Index("ix_vector_store_files_status", "status", "created_at"),)

    collection_id: Mapped[str] = mapped_column(
        ForeignKey("collections.collection_id", ondelete="CASCADE"), primary_key=True
    )
    file_id: Mapped[str] = mapped_column(ForeignKey("files.file_id"), primary_key=True, index=True)
    document_id: Mapped[str] = mapped_column(index=True)
    """The document that it is or will be; follows from collection and source."""
    source: Mapped[str]
    batch_id: Mapped[str] = mapped_column(index=True)
    attributes: Mapped[dict[str, Any]]
    chunking: Mapped[dict[str, Any]]
    """`{max_chunk_size_tokens, chunk_overlap_tokens}`; empty: as the collection says."""
    labels: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    """Who may see the document; null: as it is now, or as the collection says."""
    status: Mapped[str]
    """`in_progress`, `completed`, `failed`, `cancelled`."""
    error_code: Mapped[str]
    error_message: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float]
