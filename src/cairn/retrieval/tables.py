"""Tables of the collections, the one truth from which every index is made.

A chunk's number is never given twice, its text never changes, and `collection_changes` holds one row for
every chunk there ever was: the last thing that became of it. So an index that has followed up to a position
needs only the rows after it. Positions are in the order of commits, because `Database.writing` lets one write
at a time. Times are Unix seconds; migrations live in the registry's history.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, LargeBinary, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from cairn.registry import Base

Serial = BigInteger().with_variant(Integer, "sqlite")  # only an INTEGER counts up on SQLite
NEVER_REUSED = {"sqlite_autoincrement": True}


class SpaceRow(Base):
    """What one embedder's vectors live in; those of two spaces are never compared."""

    __tablename__ = "vector_spaces"
    __table_args__ = (UniqueConstraint("embedder", "dimensions"), NEVER_REUSED)

    space_id: Mapped[int] = mapped_column(primary_key=True)
    embedder: Mapped[str]
    """Digest of its artifact."""
    dimensions: Mapped[int]


class CollectionRow(Base):
    """A collection of documents."""

    __tablename__ = "collections"
    __table_args__ = (UniqueConstraint("owner", "name"),)

    collection_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    owner: Mapped[str]
    config: Mapped[dict[str, Any]]
    labels: Mapped[list[str]]
    """Of documents that bring none of their own."""
    space_id: Mapped[int | None] = mapped_column(ForeignKey("vector_spaces.space_id"))
    """The active space; null until the first document is embedded."""
    created_at: Mapped[float]


class DocumentRow(Base):
    """A document as it is now; its id follows from collection and source alone."""

    __tablename__ = "documents"
    __table_args__ = (UniqueConstraint("collection_id", "source"),)

    document_id: Mapped[str] = mapped_column(primary_key=True)
    collection_id: Mapped[str] = mapped_column(ForeignKey("collections.collection_id"))
    source: Mapped[str]
    """Path in the folder it came from, or the name of the upload."""
    digest: Mapped[str]
    """SHA-256 of its bytes."""
    artifact: Mapped[str] = mapped_column(ForeignKey("artifacts.digest"), index=True)
    """Bytes and parse."""
    title: Mapped[str]
    media_type: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    modified_at: Mapped[float]
    """Of the file, to skip what has not changed; 0 for uploads."""
    labels: Mapped[list[str]]
    status: Mapped[str]
    """`ready`; `partial`: some pages are not indexed; `unreadable`: none is."""
    problems: Mapped[list[Any]] = mapped_column(JSON)
    """What is wrong with pages: `{kind, page, message}`."""
    num_pages: Mapped[int]
    skipped_pages: Mapped[list[Any]] = mapped_column(JSON)
    """Numbers of pages below the least confidence."""
    chunk_tokens: Mapped[int | None]
    """Where it was given sizes of its own; else the collection's hold."""
    overlap_tokens: Mapped[int | None]
    updated_at: Mapped[float]


class ChunkRow(Base):
    """A piece of a document that is found and cited as one."""

    __tablename__ = "chunks"
    __table_args__ = (Index("ix_chunks_document_start", "document_id", "span_start"), NEVER_REUSED)

    chunk_id: Mapped[int] = mapped_column(Serial, primary_key=True)
    document_id: Mapped[str] = mapped_column(ForeignKey("documents.document_id"))
    span_start: Mapped[int]
    span_end: Mapped[int]
    page: Mapped[int]
    section: Mapped[int]
    """Chunks of one section are what is around a chunk; counted within the document."""
    heading_path: Mapped[list[str]]
    context: Mapped[str] = mapped_column(Text)
    """What is read before the text but does not stand in it: headings above, a table's header."""
    text: Mapped[str] = mapped_column(Text)
    num_tokens: Mapped[int]
    """Of context and text, as the embedder counts."""
    embedded_digest: Mapped[str] = mapped_column(index=True)
    """Of context and text: equal ones share the work of embedding."""


class ChunkVectorRow(Base):
    """A chunk's place in a space."""

    __tablename__ = "chunk_vectors"

    chunk_id: Mapped[int] = mapped_column(Serial, ForeignKey("chunks.chunk_id"), primary_key=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("vector_spaces.space_id"), primary_key=True, index=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    """Little-endian float32, of length one."""


class ChangeRow(Base):
    """The last thing that became of a chunk, for indexes that follow."""

    __tablename__ = "collection_changes"
    __table_args__ = (Index("ix_collection_changes_collection", "collection_id", "position"), NEVER_REUSED)

    position: Mapped[int] = mapped_column(Serial, primary_key=True)
    collection_id: Mapped[str]
    chunk_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    kind: Mapped[str]
    """`upsert` or `delete`."""
