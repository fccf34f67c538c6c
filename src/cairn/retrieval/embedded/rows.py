"""Vectors by slot: those of the snapshot stay in its file, mapped; those that came since are in memory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Slots = NDArray[np.int64]
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Rows:
    """`size` vectors that do not change; whoever appends makes a new one, on the same memory where it can."""

    mapped: Vectors
    """[n, dimensions], the first slots."""
    tail: Vectors
    """[capacity, dimensions], the slots after them; those beyond `size` may be another's."""
    size: int

    @classmethod
    def over(cls, mapped: Vectors) -> "Rows":
        """All of an array, and nothing after it."""
        return cls(mapped, np.empty((0, mapped.shape[1]), np.float32), len(mapped))

    def appended(self, vectors: Vectors) -> "Rows":
        """With more vectors. Only the newest may be appended to: older ones share its memory."""
        used = self.size - len(self.mapped)
        wanted, tail = used + len(vectors), self.tail
        if wanted > len(tail):
            tail = np.empty((max(wanted, 2 * len(tail), 64), tail.shape[1]), np.float32)
            tail[:used] = self.tail[:used]
        tail[used:wanted] = vectors
        return Rows(self.mapped, tail, self.size + len(vectors))

    def take(self, slots: Slots) -> Vectors:
        """The vectors in these slots."""
        first_new = len(self.mapped)
        if first_new == 0:
            return self.tail[slots]
        is_new = slots >= first_new
        if not is_new.any():
            return np.asarray(self.mapped[slots])
        out = np.empty((len(slots), self.mapped.shape[1]), np.float32)
        out[~is_new] = self.mapped[slots[~is_new]]
        out[is_new] = self.tail[slots[is_new] - first_new]
        return out

    def all_scores(self, query: Vectors) -> Vectors:
        """Products of the query with every vector."""
        used = self.size - len(self.mapped)
        return np.concatenate([self.mapped @ query, self.tail[:used] @ query])

    def scores(self, slots: Slots, query: Vectors) -> Vectors:
        """Products of the query with these vectors, in little memory."""
        parts = [self.take(slots[start : start + _CHUNK]) @ query for start in range(0, len(slots), _CHUNK)]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)
