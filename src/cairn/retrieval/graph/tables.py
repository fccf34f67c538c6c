"""Tables of the graph: what each chunk speaks of, and what was written about several together.

A row about a chunk goes with it, in the transaction that removes it; what rests on several chunks goes when
one of them changes.
"""

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from cairn.registry import Base
from cairn.retrieval.tables import NEVER_REUSED, Serial


class GraphRow(Base):
    """How far the graph of a collection has followed its changes."""

    __tablename__ = "graphs"

    collection_id: Mapped[str] = mapped_column(
        ForeignKey("collections.collection_id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(BigInteger)
    """Of the last change whose chunk was read."""
    generation: Mapped[int]
    """Grows when chunks are read again that did not change."""


class GraphChunkRow(Base):
    """What one chunk speaks of."""

    __tablename__ = "graph_chunks"

    chunk_id: Mapped[int] = mapped_column(
        Serial, ForeignKey("chunks.chunk_id", ondelete="CASCADE"), primary_key=True
    )
    extractor: Mapped[str]
    """`statistics`, or the name of the model that read it."""
    extract: Mapped[dict[str, Any]]


class CommunityRow(Base):
    """Entities that go together, and what the passages about them say; of passages that the same may see."""

    __tablename__ = "graph_communities"
    __table_args__ = NEVER_REUSED

    community_id: Mapped[int] = mapped_column(Serial, primary_key=True)
    collection_id: Mapped[str] = mapped_column(
        ForeignKey("collections.collection_id", ondelete="CASCADE"), index=True
    )
    labels: Mapped[list[str]]
    """Of every document it was made from."""
    names: Mapped[list[str]]
    """Of its entities, the most central first."""
    summary: Mapped[str] = mapped_column(Text)
    writer: Mapped[str]
    """`statistics`, or the name of the model that wrote the summary."""


class CommunityChunkRow(Base):
    """A chunk that a community was made from."""

    __tablename__ = "graph_community_chunks"

    community_id: Mapped[int] = mapped_column(
        Serial, ForeignKey("graph_communities.community_id", ondelete="CASCADE"), primary_key=True
    )
    chunk_id: Mapped[int] = mapped_column(
        Serial, ForeignKey("chunks.chunk_id", ondelete="CASCADE"), primary_key=True, index=True
    )
