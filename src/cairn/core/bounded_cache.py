"""BoundedCache: what was computed before, as much as fits; what was not asked for longest goes first."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """Values by key, at most `max_bytes` of them as whoever puts them counts; any thread may ask."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._held: OrderedDict[K, tuple[V, int]] = OrderedDict()  # the longest unused first
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """What is held under a key."""
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._held.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V, num_bytes: int) -> None:
        """Hold a value that never changes; one that is larger than all room is not held."""
        if num_bytes > self.max_bytes:
            return
        with self._lock:
            before = self._held.pop(key, None)
            self.num_bytes += num_bytes - (before[1] if before is not None else 0)
            self._held[key] = (value, num_bytes)
            while self.num_bytes > self.max_bytes:
                self.num_bytes -= self._held.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Hold nothing."""
        with self._lock:
            self._held.clear()
            self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._held)
