"""Tables of what happens to a collection's spaces: a second one, how well the index finds, what is asked."""

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Integer, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from cairn.registry import Base


class CollectionSpaceRow(Base):
    """A space that a collection has beside the active one."""

    __tablename__ = "collection_spaces"
    __table_args__ = (UniqueConstraint("collection_id", "role"),)

    collection_id: Mapped[str] = mapped_column(ForeignKey("collections.collection_id"), primary_key=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("vector_spaces.space_id"), primary_key=True)
    role: Mapped[str]
    """`next`: it is filled and may become the active one; `previous`: it was."""
    settings: Mapped[dict[str, Any]] = mapped_column(JSON)
    """Those of the collection that go with it: its embedder's name, and how its scores are fused."""
    created_at: Mapped[float]


class RecallRow(Base):
    """What samples of the approximate search found of what an exact one does."""

    __tablename__ = "collection_recall"

    collection_id: Mapped[str] = mapped_column(ForeignKey("collections.collection_id"), primary_key=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("vector_spaces.space_id"), primary_key=True)
    recent: Mapped[list[Any]] = mapped_column(JSON)
    """Shares of the newest samples, oldest first."""
    measured_at: Mapped[float]


class QueryRow(Base):
    """A query that was asked lately, where the collection keeps them."""

    __tablename__ = "collection_queries"
    __table_args__ = ({"sqlite_autoincrement": True},)

    query_id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    collection_id: Mapped[str] = mapped_column(ForeignKey("collections.collection_id"), index=True)
    text: Mapped[str] = mapped_column(Text)
    asked_at: Mapped[float]
