"""Index: finds chunks near a vector, or by their words, among those a reader may see.

An index is derived: whatever it holds can be made again from the collection, which is the one truth. So a
store may lose what it was told last, but never the number of the change up to which it is complete.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cairn.core.errors import InvalidRequestError

_UNIT = 1e-2
"""How far from one the length of a vector may be."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A chunk as an index holds it."""

    chunk_id: int
    document_id: str
    text: str
    vector: NDArray[np.float32]
    """[dimensions], of length one."""
    allowed: frozenset[str]
    """Labels of who may see it: `user:NAME`, `group:NAME`, or `everyone`; none of them: nobody."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What may be found; every condition holds at once."""

    labels: frozenset[str] | None
    """Those of the reader: an entry is seen when it allows one of them. None is for maintenance alone."""
    documents: frozenset[str] | None = None
    """Only chunks of these documents."""


@dataclass(frozen=True, slots=True)
class Match:
    """A chunk that was found; more score is better."""

    chunk_id: int
    score: float
    """Dense: the cosine. Lexical: BM25, comparable within one query."""


class Index(Protocol):
    """One space of vectors and the words of the same chunks; one writer, any number of readers."""

    @property
    def dimensions(self) -> int:
        """Numbers of a vector."""
        ...

    @property
    def position(self) -> int:
        """Number of the last change that it holds for good; 0 when new."""
        ...

    def apply(self, position: int, upserts: Sequence[Entry], deletes: Sequence[int]) -> None:
        """Take in changes up to `position`, all or none; deletes come first.

        What is at or below the position it holds is not taken in again, so the same changes twice are once,
        and late ones are none. Each call needs a position above the last.
        """
        ...

    def search(self, vector: NDArray[np.float32], limit: int, where: Filter) -> list[Match]:
        """The entries nearest to a vector [dimensions], best first; `limit` of them if there are as many."""
        ...

    def search_text(self, query: str, limit: int, where: Filter) -> list[Match]:
        """The entries whose words fit best (BM25, stemmed), best first."""
        ...

    def exact(self, vector: NDArray[np.float32], limit: int, where: Filter) -> list[Match]:
        """Like `search`, but compared with every entry: what the recall monitor holds `search` against."""
        ...

    def count(self) -> int:
        """Chunks in it."""
        ...

    def flush(self) -> None:
        """Make durable what was applied."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


def checked_entries(entries: Sequence[Entry], dimensions: int) -> list[Entry]:
    """The last entry of every chunk; an error when a vector is none of this index."""
    found = {entry.chunk_id: entry for entry in entries}
    for entry in found.values():
        checked_vector(entry.vector, dimensions)
    return list(found.values())


def checked_vector(vector: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """A vector as float32; an error when it has other dimensions or is not of length one."""
    if vector.shape != (dimensions,):
        raise InvalidRequestError(
            f"a vector of shape {vector.shape}, this index has {dimensions} dimensions",
            remedy="embed with the model that the collection was indexed with",
        )
    found = np.asarray(vector, np.float32)
    length = float(np.sqrt(np.dot(found, found)))
    if not abs(length - 1) <= _UNIT:  # also what is not a number
        raise InvalidRequestError(f"a vector of length {length:.4g}, not 1", remedy="normalise it")
    return found
