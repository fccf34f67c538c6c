"""Who may see which slots: entries of one document with the same labels are a group, a filter some groups.

Group 0 is that of entries which are gone. The list of groups only grows until the index is compacted, so a
reader that works on an older state finds the same meaning under the same number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.index import Filter

GONE = 0
Group = tuple[str, frozenset[str]]
"""Document, labels."""


@dataclass(slots=True)
class Groups:
    """Numbers of groups; one thread adds, any may ask."""

    all: list[Group] = field(default_factory=lambda: [("", frozenset())])
    _numbers: dict[Group, int] = field(default_factory=dict)
    _by_label: dict[str, list[int]] = field(default_factory=dict)
    _by_document: dict[str, list[int]] = field(default_factory=dict)

    def number(self, group: Group) -> int:
        """The number of a group, which is added if it is new."""
        known = self._numbers.get(group)
        if known is not None:
            return known
        number = len(self.all)
        self.all.append(group)
        self._numbers[group] = number
        self._by_document.setdefault(group[0], []).append(number)
        for label in group[1]:
            self._by_label.setdefault(label, []).append(number)
        return number

    def allowed(self, where: Filter, count: int) -> NDArray[np.bool_]:
        """Which of the first `count` groups a filter lets through: [count]."""
        ok = np.zeros(count, np.bool_)
        if where.labels is None:
            ok[1:] = True
        else:
            ok[_below(count, (self._by_label.get(label, ()) for label in where.labels))] = True
        if where.documents is not None:
            named = np.zeros(count, np.bool_)
            named[_below(count, (self._by_document.get(each, ()) for each in where.documents))] = True
            ok &= named
        return ok


def _below(count: int, lists: Iterable[Sequence[int]]) -> NDArray[np.int64]:
    numbers = [number for each in lists for number in tuple(each) if number < count]
    return np.array(numbers, np.int64)


@dataclass(frozen=True, slots=True)
class Mask:
    """A filter on one state."""

    groups: NDArray[np.uint8]
    """[groups]: 1 where it lets through."""
    slots: NDArray[np.bool_]
    """[slots]"""
    count: int
    """Entries that pass."""
