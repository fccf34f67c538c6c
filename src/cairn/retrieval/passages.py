"""Passages from the database, each checked against its reader's labels at the moment it is read.

This is the second check: what an index still holds of a document that was closed a moment ago ends here.
`labels=None` is for maintenance.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from cairn.core.retrieval import Passage
from cairn.retrieval.access import may_see
from cairn.retrieval.tables import ChunkRow, ChunkVectorRow, DocumentRow

_PARAMETERS = 500
Labels = frozenset[str] | None


def load_passages(
    session: Session, collection_id: str, chunk_ids: Iterable[int], labels: Labels
) -> dict[int, Passage]:
    """The chunks among these that the reader may see, as they are now."""
    wanted, found = list(chunk_ids), dict[int, Passage]()
    for start in range(0, len(wanted), _PARAMETERS):
        part = ChunkRow.chunk_id.in_(wanted[start : start + _PARAMETERS])
        for row in _rows(session, collection_id, part, labels):
            found[row.chunk_id] = _passage(row)
    return found


def chunks_of(session: Session, collection_id: str, document_id: str, labels: Labels) -> list[Passage]:
    """Every chunk of a document in order; none when the reader may not see it."""
    rows = _rows(session, collection_id, ChunkRow.document_id == document_id, labels)
    return [_passage(row) for row in rows]


def section_around(session: Session, collection_id: str, chunk_id: int, labels: Labels) -> list[Passage]:
    """The chunks of the section that a chunk stands in, in order."""
    chunk = session.get(ChunkRow, chunk_id)
    if chunk is None:
        return []
    same = (ChunkRow.document_id == chunk.document_id) & (ChunkRow.section == chunk.section)
    return [_passage(row) for row in _rows(session, collection_id, same, labels)]


def load_vectors(
    session: Session, space_id: int, chunk_ids: Collection[int]
) -> dict[int, NDArray[np.float32]]:
    """Vectors of chunks in a space."""
    query = select(ChunkVectorRow.chunk_id, ChunkVectorRow.vector).where(
        ChunkVectorRow.space_id == space_id, ChunkVectorRow.chunk_id.in_(chunk_ids)
    )
    return {row.chunk_id: np.frombuffer(row.vector, "<f4") for row in session.execute(query)}


def vectors_of_texts(
    session: Session, space_id: int, digests: Collection[str]
) -> Mapping[str, NDArray[np.float32]]:
    """Vectors that were computed before for texts of these digests."""
    found: dict[str, NDArray[np.float32]] = {}
    wanted = list(digests)
    for start in range(0, len(wanted), _PARAMETERS):
        query = (
            select(ChunkRow.embedded_digest, ChunkVectorRow.vector)
            .join(ChunkVectorRow, ChunkVectorRow.chunk_id == ChunkRow.chunk_id)
            .where(
                ChunkVectorRow.space_id == space_id,
                ChunkRow.embedded_digest.in_(wanted[start : start + _PARAMETERS]),
            )
        )
        found.update(
            {row.embedded_digest: np.frombuffer(row.vector, "<f4") for row in session.execute(query)}
        )
    return found


def _rows(session: Session, collection_id: str, chunks: ColumnElement[bool], labels: Labels) -> list[Any]:
    query = (
        select(
            ChunkRow.chunk_id,
            ChunkRow.document_id,
            ChunkRow.span_start,
            ChunkRow.span_end,
            ChunkRow.page,
            ChunkRow.heading_path,
            ChunkRow.text,
            DocumentRow.collection_id,
            DocumentRow.digest,
            DocumentRow.source,
            DocumentRow.labels,
        )
        .join(DocumentRow, DocumentRow.document_id == ChunkRow.document_id)
        .where(DocumentRow.collection_id == collection_id, chunks)
        .order_by(ChunkRow.document_id, ChunkRow.span_start)
    )
    return [row for row in session.execute(query) if may_see(row.labels, labels)]


def _passage(row: Any) -> Passage:
    return Passage(
        chunk_id=row.chunk_id,
        document_id=row.document_id,
        document_digest=row.digest,
        name=row.source,
        text=row.text,
        span=(row.span_start, row.span_end),
        page=row.page,
        heading_path=tuple(row.heading_path),
        collection_id=row.collection_id,
    )
