"""A table of 64-bit keys with small values in flat numpy arrays: 17 to 34 bytes a key, whole batches at once.

Python's own sets take 60 to 100 bytes a key and one call each; duplicate detection over a large corpus
needs neither. Open addressing with linear probing; keys are hashes, spread evenly already.
"""

import numpy as np
from numpy.typing import NDArray

from cairn.data.words import Hashes

_EMPTY = np.uint64(0)
_LEAST_SLOTS = 1 << 10
_MOST_FILLED = 0.7
Values = NDArray[np.uint32]


class HashTable:
    """Keys to uint32 values. The key 0 is stored as 1, which for hashes is one collision more."""

    def __init__(self) -> None:
        self._keys = np.zeros(_LEAST_SLOTS, np.uint64)
        self._values = np.zeros(_LEAST_SLOTS, np.uint32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def num_bytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes

    def find(self, keys: Hashes) -> tuple[NDArray[np.bool_], Values]:
        """[n] whether each key is there, and its value (0 where it is not)."""
        keys = np.maximum(keys, np.uint64(1))
        found = np.zeros(len(keys), np.bool_)
        values = np.zeros(len(keys), np.uint32)
        open_ = np.arange(len(keys))
        slots = self._slots(keys)
        while len(open_):
            stored = self._keys[slots]
            hit = stored == keys[open_]
            found[open_[hit]] = True
            values[open_[hit]] = self._values[slots[hit]]
            goes_on = ~hit & (stored != _EMPTY)
            open_, slots = open_[goes_on], self._next(slots[goes_on])
        return found, values

    def add(self, keys: Hashes, values: Values) -> None:
        """Store keys that are not there yet with their values; of equal keys the first wins."""
        keys, first = np.unique(np.maximum(keys, np.uint64(1)), return_index=True)
        is_new = ~self.find(keys)[0]
        keys, values = keys[is_new], values[first][is_new]
        while self._count + len(keys) > _MOST_FILLED * len(self._keys):
            self._grow()
        self._insert(keys, values)
        self._count += len(keys)

    def _insert(self, keys: Hashes, values: Values) -> None:
        slots = self._slots(keys)
        while len(keys):
            is_free = self._keys[slots] == _EMPTY
            # Of several keys that want one free slot the last write stays; the others look on.
            self._keys[slots[is_free]] = keys[is_free]
            settled = self._keys[slots] == keys
            self._values[slots[settled]] = values[settled]
            keys, values, slots = keys[~settled], values[~settled], self._next(slots[~settled])

    def _grow(self) -> None:
        is_used = self._keys != _EMPTY
        keys, values = self._keys[is_used], self._values[is_used]
        self._keys = np.zeros(2 * len(self._keys), np.uint64)
        self._values = np.zeros(len(self._keys), np.uint32)
        self._insert(keys, values)

    def _slots(self, keys: Hashes) -> NDArray[np.int64]:
        return (keys & np.uint64(len(self._keys) - 1)).astype(np.int64)

    def _next(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        return (slots + 1) & (len(self._keys) - 1)
