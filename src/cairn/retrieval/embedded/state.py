"""All an embedded index knows at one position; it does not change, so a search sees all of a change or none.

Arrays are shared with the states before and after it as far as they agree.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.embedded import lexicon
from cairn.retrieval.embedded.access import GONE, Groups, Mask
from cairn.retrieval.embedded.lexicon import Segment
from cairn.retrieval.embedded.neighbours import new_graph
from cairn.retrieval.embedded.rows import Rows
from cairn.retrieval.index import Filter

_MOST_MASKS = 16
"""Filters whose slots are kept at hand: readers come again."""


@dataclass(frozen=True)
class State:
    """`groups` is the one table of all states; of it, this one knows the first `num_groups`."""

    position: int
    chunk_ids: NDArray[np.int64]
    """[slots]"""
    group: NDArray[np.int32]
    """[slots]; `GONE` for one that is no more."""
    lengths: NDArray[np.int32]
    """[slots]: terms of each text."""
    rows: Rows
    segments: tuple[Segment, ...]
    terms: dict[str, int]
    """Their numbers; as `groups`, one table of all states."""
    groups: Groups
    num_groups: int
    graph: Any | None
    """Over these slots and later ones; None where there is no native module."""
    _masks: dict[Filter, Mask] = field(default_factory=dict)

    @classmethod
    def empty(cls, dimensions: int) -> "State":
        """At position 0."""
        none = np.empty(0, np.int32)
        rows = Rows.over(np.empty((0, dimensions), np.float32))
        return cls(0, np.empty(0, np.int64), none, none, rows, (), {}, Groups(), 1, new_graph(dimensions))

    @property
    def size(self) -> int:
        """Slots, also of what is gone."""
        return len(self.group)

    @cached_property
    def count(self) -> int:
        """Entries."""
        return int(np.count_nonzero(self.group))

    @property
    def is_live(self) -> NDArray[np.bool_]:
        """[slots]"""
        return np.asarray(self.group != GONE)

    @cached_property
    def norms(self) -> NDArray[np.float32]:
        """[slots]: what a term's count is held against in BM25."""
        mean = max(float(self.lengths.mean()), 1.0) if self.size else 1.0
        relative = self.lengths / np.float32(mean)
        return np.asarray(lexicon.K1 * (1 - lexicon.B + lexicon.B * relative), np.float32)

    def mask(self, where: Filter) -> Mask:
        """What a filter lets through."""
        found = self._masks.get(where)
        if found is None:
            groups = self.groups.allowed(where, self.num_groups)
            slots = groups[self.group]
            found = Mask(groups.astype(np.uint8), slots, int(np.count_nonzero(slots)))
            if len(self._masks) >= _MOST_MASKS:
                self._masks.clear()
            self._masks[where] = found
        return found
