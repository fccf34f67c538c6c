"""The monitor of a collection: compares some of its searches with exact ones, keeps queries if told to.

It works on a thread of its own behind a short queue; when that is full a query goes unwatched, so that no
query ever waits for it. When the recall of the newest samples falls below the collection's bound, it logs
one line; metrics and `cairn index stats` say it as long as it lasts.
"""

import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cairn.registry import Database
from cairn.retrieval.asked import keep_queries
from cairn.retrieval.config import CollectionConfig
from cairn.retrieval.index import Filter
from cairn.retrieval.recall import note_recall, recall_of, recalls
from cairn.retrieval.spaces import OpenSpace

_WAITING = 64
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    query: str
    num_kept: int
    """How many queries the collection keeps; 0: not this one."""
    space: OpenSpace | None
    """Held until it was compared; None: it is not a sample."""
    vector: NDArray[np.float32]
    where: Filter


class Monitor:
    """See above; `close` it before the collection."""

    def __init__(
        self, database: Database, collection_id: str, chance: Callable[[], float] = random.random
    ) -> None:
        self._database, self._collection_id, self._chance = database, collection_id, chance
        self._lock = threading.Lock()
        self._waiting: deque[_Asked] = deque()
        self._thread: ThreadPoolExecutor | None = None
        self._working: Future[None] | None = None
        self._is_closed = self._is_low = False

    def saw(
        self,
        space: OpenSpace,
        query: str,
        vector: NDArray[np.float32],
        where: Filter,
        config: CollectionConfig,
    ) -> None:
        """Take note of a query, while the caller holds the space."""
        is_sample = self._chance() < config.recall_share
        if not is_sample and not config.keep_queries:
            return
        with self._lock:
            if self._is_closed or len(self._waiting) >= _WAITING:
                return
            if is_sample:
                space.acquire()
            self._waiting.append(
                _Asked(query, config.keep_queries, space if is_sample else None, vector, where)
            )
            if self._working is None or self._working.done():
                self._thread = self._thread or ThreadPoolExecutor(1, "cairn-monitor")
                self._working = self._thread.submit(self._work)

    def settle(self) -> None:
        """Wait until everything that was seen is noted."""
        with self._lock:
            working = self._working
        if working is not None:
            working.result()

    def close(self) -> None:
        """Finish what waits, and take in no more."""
        with self._lock:
            self._is_closed = True
        if self._thread is not None:
            self._thread.shutdown()

    def _work(self) -> None:
        while True:
            with self._lock:
                batch = list(self._waiting)
                self._waiting.clear()
                if not batch:
                    # Under the lock, so that whoever adds next sees that nobody works any more.
                    self._working = None
                    return
            shares = [(each.space.space_id, self._share(each, each.space)) for each in batch if each.space]
            try:
                self._note(batch, [(space_id, share) for space_id, share in shares if share is not None])
            except Exception:  # noqa: BLE001 (the edge of a thread)
                _log.warning("what was asked of %s cannot be noted", self._collection_id, exc_info=True)

    def _share(self, sample: _Asked, space: OpenSpace) -> float | None:
        try:
            with space.released_after():
                return recall_of(space.index(), sample.vector, sample.where)
        except Exception:  # noqa: BLE001 (the edge of a thread)
            _log.warning("the recall of %s cannot be measured", self._collection_id, exc_info=True)
            return None

    def _note(self, batch: list[_Asked], shares: list[tuple[int, float]]) -> None:
        for space_id in {space_id for space_id, _ in shares}:
            found = [share for each, share in shares if each == space_id]
            note_recall(self._database, self._collection_id, space_id, found)
        kept = [each for each in batch if each.num_kept]
        if kept:
            most = kept[-1].num_kept
            keep_queries(self._database, self._collection_id, [each.query for each in kept], most)
        if shares:
            self._tell()

    def _tell(self) -> None:
        """One line when recall falls below its bound, and one when it is back."""
        found = recalls(self._database).get(self._collection_id)
        if found is None or found.is_low == self._is_low:
            return
        self._is_low = found.is_low
        if found.is_low:
            _log.warning(
                "the search of %r finds %.3f of the nearest passages, less than %.3f; "
                "cairn index check %r --rebuild",
                *(found.collection, found.recall, found.least, found.collection),
            )
        else:
            _log.warning("the search of %r finds %.3f again", found.collection, found.recall)
