"""Passages read again for the graph by who reads better than statistics: a chat model, handed in from above.

What was read is kept with who read it, so only what is new to them is read. A passage that they made nothing
of keeps what statistics found, and is remembered as tried. Each batch is one transaction: a process that is
killed leaves every passage read by the one or the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from cairn.core.progress import Progress, Silent
from cairn.registry import Database
from cairn.retrieval.graph.mentions import STATISTICS, Extract, dump_extract
from cairn.retrieval.graph.tables import GraphChunkRow, GraphRow
from cairn.retrieval.tables import ChunkRow, DocumentRow

_BATCH = 20


@dataclass(frozen=True, slots=True)
class Unread:
    """A passage that is to be read."""

    chunk_id: int
    context: str
    text: str


@dataclass(slots=True)
class Reread:
    """What became of passages."""

    num_read: int = 0
    num_failed: int = 0
    """Those that keep what statistics found."""


Read = Callable[[Unread], Extract | None]


def reread(
    database: Database, collection_id: str, reader: str, read: Read, progress: Progress | None = None
) -> Reread:
    """Have passages read that `reader` has not read yet; the graph has read them all before."""
    done = Reread()
    with database.session(read_only=True) as session:
        total = len(_unread(session, collection_id, reader, None))
    with (progress or Silent()).task(f"reading with {reader}", total) as task:
        while True:
            with database.session(read_only=True) as session:
                batch = _unread(session, collection_id, reader, _BATCH)
            if not batch:
                return done
            extracts = dict[int, Extract | None]()
            for each in batch:
                extracts[each.chunk_id] = read(each)
                task.advance()
            _keep(database, collection_id, reader, extracts)
            failed = sum(extract is None for extract in extracts.values())
            done.num_failed += failed
            done.num_read += len(extracts) - failed


def tried(reader: str) -> str:
    """Who a passage was read by that a reader made nothing of."""
    return f"{STATISTICS}, not {reader}"


def _unread(session: Session, collection_id: str, reader: str, limit: int | None) -> Sequence[Unread]:
    query = (
        select(ChunkRow.chunk_id, ChunkRow.context, ChunkRow.text)
        .join(GraphChunkRow, GraphChunkRow.chunk_id == ChunkRow.chunk_id)
        .join(DocumentRow, DocumentRow.document_id == ChunkRow.document_id)
        .where(
            DocumentRow.collection_id == collection_id,
            GraphChunkRow.extractor.not_in((reader, tried(reader))),
        )
        .order_by(ChunkRow.chunk_id)
        .limit(limit)
    )
    return [Unread(*row) for row in session.execute(query)]


def _keep(database: Database, collection_id: str, reader: str, extracts: dict[int, Extract | None]) -> None:
    with database.writing() as session:
        for chunk_id, extract in extracts.items():
            new: dict[str, Any] = {"extractor": tried(reader)}
            if extract is not None:
                new = {"extractor": reader, "extract": dump_extract(extract)}
            session.execute(update(GraphChunkRow).where(GraphChunkRow.chunk_id == chunk_id).values(**new))
        row = session.get(GraphRow, collection_id)
        if row is not None and any(extracts.values()):
            row.generation += 1  # whoever holds the graph reads it again
