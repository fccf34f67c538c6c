"""A store of vectors and an index of words as one `Index`.

A change goes to the store, then to the words, and each skips what it has already: after a failure in between,
the same change again completes it. The store's position is written after its entries. A store that several
processes write to should be told by one of them: only pgvector does both under a lock.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.embedded import EmbeddedIndex
from cairn.retrieval.index import Entry, Filter, Match, checked_entries, checked_vector

Item = TypeVar("Item")
Vector = NDArray[np.float32]
_SAME = np.ones(1, np.float32)


class VectorStore(Protocol):
    """What an adapter does; every condition of a filter is the store's to hold, during its search."""

    dimensions: int

    def position(self) -> int:
        """Of the last change that is there for good; 0 when new."""
        ...

    def count(self) -> int:
        """Entries."""
        ...

    def write(self, position: int, entries: Sequence[Entry], deletes: Sequence[int]) -> None:
        """Delete, then put, then note the position; in part where it fails, and again does no harm."""
        ...

    def nearest(self, vector: Vector, limit: int, where: Filter, *, exact: bool) -> list[Match]:
        """As `Index.search` and `Index.exact`; labels and documents are None or at least one."""
        ...

    def flush(self) -> None:
        """Make durable, and tidy up."""
        ...

    def drop(self) -> None:
        """Remove all that `connect` and `write` made."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class JoinedIndex:
    """See `Index`."""

    def __init__(self, store: VectorStore, words: Path) -> None:
        self._store = store
        self._words = EmbeddedIndex(words, len(_SAME), name=words.name)

    @staticmethod
    def drop_words(folder: Path) -> None:
        """Remove the words of an index that is not open."""
        shutil.rmtree(folder, ignore_errors=True)

    @property
    def dimensions(self) -> int:
        return self._store.dimensions

    @property
    def position(self) -> int:
        return min(self._store.position(), self._words.position)

    def count(self) -> int:
        return self._store.count()

    def apply(self, position: int, upserts: Sequence[Entry], deletes: Sequence[int]) -> None:
        entries = checked_entries(upserts, self.dimensions)
        if position > self._store.position():
            # An upsert replaces what is there, so it needs no delete before it.
            kept = {entry.chunk_id for entry in entries}
            self._store.write(position, entries, [chunk for chunk in set(deletes) if chunk not in kept])
        self._words.apply(position, [replace(entry, vector=_SAME) for entry in entries], deletes)

    def search(self, vector: Vector, limit: int, where: Filter) -> list[Match]:
        return self._nearest(vector, limit, where, exact=False)

    def exact(self, vector: Vector, limit: int, where: Filter) -> list[Match]:
        return self._nearest(vector, limit, where, exact=True)

    def _nearest(self, vector: Vector, limit: int, where: Filter, *, exact: bool) -> list[Match]:
        query = checked_vector(vector, self.dimensions)
        if limit < 1 or is_empty(where):
            return []
        return self._store.nearest(query, limit, where, exact=exact)

    def search_text(self, query: str, limit: int, where: Filter) -> list[Match]:
        return self._words.search_text(query, limit, where)

    def flush(self) -> None:
        self._store.flush()
        self._words.flush()

    def close(self) -> None:
        self._store.close()
        self._words.close()


def in_batches(items: Sequence[Item], size: int = 200) -> Iterator[Sequence[Item]]:
    """As many as are sent at once."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def is_empty(where: Filter) -> bool:
    """Whether nothing can pass: an empty list means that to us, but everything to some stores."""
    return where.labels == frozenset() or where.documents == frozenset()


def passes(document_id: str, allowed: Sequence[str], where: Filter) -> bool:
    """The filter, for stores that cannot hold it where every entry is compared."""
    may = where.labels is None or not where.labels.isdisjoint(allowed)
    return may and (where.documents is None or document_id in where.documents)


def best(
    chunk_ids: Sequence[int], vectors: Sequence[Sequence[float]], query: Vector, limit: int
) -> list[Match]:
    """The nearest of these, compared here."""
    if not len(chunk_ids):
        return []
    rows = np.asarray(vectors, np.float32)
    scores = rows @ query / np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
    order = np.lexsort((np.asarray(chunk_ids), -scores))[:limit]
    return [Match(int(chunk_ids[n]), float(scores[n])) for n in order]
