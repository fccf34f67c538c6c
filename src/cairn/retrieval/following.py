"""An index kept up with the database: it is told each change in order, and made anew when it cannot be.

Whoever holds a collection open follows on its own; what one process committed another finds with its next
search. In a space that is still being filled an index is complete up to the first chunk without a vector.
"""

import threading
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, Protocol

import numpy as np
from sqlalchemy import func, select

from cairn.registry import Database
from cairn.retrieval.chunking import embedded_text
from cairn.retrieval.index import Entry, Index
from cairn.retrieval.tables import ChangeRow, ChunkRow, ChunkVectorRow, DocumentRow

_BATCH = 1000


class Indexes(Protocol):
    """Where the indexes of collections are kept."""

    def open(self, key: str, dimensions: int) -> Index:
        """The index of a key, as far as it was made durable; a new one where there is none."""
        ...

    def drop(self, key: str) -> None:
        """Throw away what is kept under a key; it may be missing."""
        ...


def index_key(collection_id: str, space_id: int) -> str:
    """What the index of a collection in a space is known by."""
    return f"{collection_id}-{space_id}"


class Follower:
    """The index of one collection in one space, and how far it has followed."""

    def __init__(
        self,
        database: Database,
        indexes: Indexes,
        collection_id: str,
        space_id: int,
        dimensions: int,
        on_delete: Callable[[], None] = lambda: None,
    ) -> None:
        self._database, self._indexes, self._on_delete = database, indexes, on_delete
        self._collection_id, self._space_id = collection_id, space_id
        self._dimensions = dimensions
        self._lock = threading.Lock()
        self._key = index_key(collection_id, space_id)
        self._index = indexes.open(self._key, dimensions)
        self._position = self._index.position
        if self._position > self._newest():
            # It knows of changes that the database has lost: an older backup was brought back.
            self.rebuild()

    def current(self) -> Index:
        """The index with everything that was committed before the call."""
        newest = self._newest()
        if self._position < newest:
            with self._lock:
                while self._position < newest and self._follow():
                    pass
        return self._index

    def rebuild(self) -> None:
        """Throw the index away and make it again from the database."""
        with self._lock:
            self._index.close()
            self._indexes.drop(self._key)
            self._index = self._indexes.open(self._key, self._dimensions)
            self._position = self._index.position
        self.current().flush()

    def close(self, *, is_dropped: bool = False) -> None:
        """Make durable what was followed, unless nobody will want it, and let go."""
        with self._lock:
            if not is_dropped:
                self._index.flush()
            self._index.close()

    def _newest(self) -> int:
        newest = select(func.max(ChangeRow.position)).where(ChangeRow.collection_id == self._collection_id)
        with self._database.session(read_only=True) as session:
            return session.scalar(newest) or 0

    def _follow(self) -> bool:
        """Take in the next changes, up to a chunk whose vector is yet to come; whether there were any."""
        rows = self._changes()
        taken = list(takewhile(lambda row: row.kind != "upsert" or row.vector is not None, rows))
        if not taken:
            return False
        upserts = [_entry(row) for row in taken if row.kind == "upsert"]
        deletes = [row.chunk_id for row in taken if row.kind == "delete"]
        self._index.apply(taken[-1].position, upserts, deletes)
        self._position = taken[-1].position
        if deletes:
            self._on_delete()
        return True

    def _changes(self) -> Sequence[Any]:
        query = (
            select(
                ChangeRow.position,
                ChangeRow.chunk_id,
                ChangeRow.kind,
                ChunkRow.context,
                ChunkRow.text,
                DocumentRow.document_id,
                DocumentRow.labels,
                ChunkVectorRow.vector,
            )
            .outerjoin(ChunkRow, ChunkRow.chunk_id == ChangeRow.chunk_id)
            .outerjoin(DocumentRow, DocumentRow.document_id == ChunkRow.document_id)
            .outerjoin(
                ChunkVectorRow,
                (ChunkVectorRow.chunk_id == ChangeRow.chunk_id) & (ChunkVectorRow.space_id == self._space_id),
            )
            .where(ChangeRow.collection_id == self._collection_id, ChangeRow.position > self._position)
            .order_by(ChangeRow.position)
            .limit(_BATCH)
        )
        with self._database.session(read_only=True) as session:
            return session.execute(query).all()


def _entry(row: Any) -> Entry:
    return Entry(
        chunk_id=row.chunk_id,
        document_id=row.document_id,
        text=embedded_text(row.context, row.text),
        vector=np.frombuffer(row.vector, "<f4"),
        allowed=frozenset(row.labels),
    )
