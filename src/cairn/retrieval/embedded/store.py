"""The embedded index: searches on a state that does not change, changes that make the next one.

Readers take no lock of Python's making. One thread writes at a time; what it adds is seen when all of it is
there. The snapshot is written by `flush`, which also gives back the memory of what is gone. Several
processes may have the same folder open: each keeps its own state, and of their snapshots the newest stays.
"""

import fcntl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.embedded import lexicon, neighbours, snapshot
from cairn.retrieval.embedded.access import GONE, Groups
from cairn.retrieval.embedded.freezing import frozen, thawed
from cairn.retrieval.embedded.state import State
from cairn.retrieval.index import Entry, Filter, Match, checked_entries, checked_vector
from cairn.retrieval.terms import terms

_FILE, _LOCK = "index.cairn", "index.lock"
_LEAST_GONE = 1000
"""Entries gone for which it is never worth writing the snapshot anew."""


class EmbeddedIndex:
    """See `Index`. `name` says what it is an index of: a snapshot of another name is not taken."""

    def __init__(self, folder: Path, dimensions: int, *, name: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name, self._dimensions = folder, name, dimensions
        self._writing = threading.Lock()
        self._slots: dict[int, int] | None = None
        self._state = State.empty(dimensions)
        self._saved = self._num_unlinked = 0
        self._load()

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def position(self) -> int:
        return self._state.position

    def count(self) -> int:
        return self._state.count

    @property
    def num_gone(self) -> int:
        """Entries that are no more but whose memory is not given back yet."""
        return self._state.size - self._state.count

    def apply(self, position: int, upserts: Sequence[Entry], deletes: Sequence[int]) -> None:
        entries = checked_entries(upserts, self._dimensions)
        with self._writing:
            state = self._state
            if position <= state.position:
                return
            if self.num_gone > max(_LEAST_GONE, state.count):
                self._flush()
                state = self._state
            self._state = self._changed(state, position, entries, deletes)
            self._unlink_gone()

    def search(self, vector: NDArray[np.float32], limit: int, where: Filter) -> list[Match]:
        query, state = checked_vector(vector, self._dimensions), self._state
        slots = neighbours.candidates(state.graph, query, limit, state.group, state.mask(where))
        return _best(state, slots, state.rows.scores(slots, query), limit)

    def exact(self, vector: NDArray[np.float32], limit: int, where: Filter) -> list[Match]:
        query, state = checked_vector(vector, self._dimensions), self._state
        mask = state.mask(where)
        slots = np.flatnonzero(mask.slots)
        is_most = 2 * len(slots) > state.size
        scores = state.rows.all_scores(query)[slots] if is_most else state.rows.scores(slots, query)
        return _best(state, slots, scores, limit)

    def search_text(self, query: str, limit: int, where: Filter) -> list[Match]:
        state = self._state
        known = [number for number in map(state.terms.get, terms(query)) if number is not None]
        mask = state.mask(where)
        if not known or not mask.count or limit < 1:
            return []
        ranges, weights = lexicon.postings_of(state.segments, known, state.size)
        native = neighbours.native()
        if native is None:
            return _best(state, *lexicon.search(ranges, weights, state.norms, mask.slots), limit)
        slots, scores = native.best_by_words(
            ranges,
            weights=weights,
            norms=state.norms,
            group=state.group,
            groups=mask.groups,
            ids=state.chunk_ids,
            limit=limit,
        )
        return _matches(state.chunk_ids[slots], scores)

    def flush(self) -> None:
        with self._writing:
            self._flush()

    def close(self) -> None:
        self._state = State.empty(self._dimensions)

    def _changed(
        self, state: State, position: int, entries: Sequence[Entry], deletes: Sequence[int]
    ) -> State:
        slots = self._slots_by_chunk(state)
        chunks = [entry.chunk_id for entry in entries]
        gone = [chunk for chunk in {*deletes, *chunks} if chunk in slots]
        group = np.concatenate([state.group, self._groups_of(state.groups, entries)])
        group[[slots[chunk] for chunk in gone]] = GONE
        numbers = [[state.terms.setdefault(t, len(state.terms)) for t in terms(e.text)] for e in entries]
        segments = state.segments
        if entries:
            added = lexicon.new_segment(state.size, numbers)
            segments = lexicon.with_segment(segments, added, group != GONE)
        rows = state.rows.appended(np.stack([e.vector for e in entries])) if entries else state.rows
        changed = State(
            position,
            np.concatenate([state.chunk_ids, np.array(chunks, np.int64)]),
            group,
            np.concatenate([state.lengths, np.array([len(each) for each in numbers], np.int32)]),
            rows,
            segments,
            state.terms,
            state.groups,
            len(state.groups.all),
            neighbours.extended(state.graph, rows),
        )
        for chunk in gone:
            del slots[chunk]
        slots.update((chunk, state.size + place) for place, chunk in enumerate(chunks))
        return changed

    def _unlink_gone(self) -> None:
        """Take what is gone out of the graph, many at a time; till then it leads the way but is not found."""
        state = self._state
        if state.graph is not None and self.num_gone - self._num_unlinked > max(256, state.count // 10):
            state.graph.unlink(state.is_live.view(np.uint8))
            self._num_unlinked = self.num_gone

    def _slots_by_chunk(self, state: State) -> dict[int, int]:
        if self._slots is None:
            live = np.flatnonzero(state.group)
            self._slots = dict(zip(state.chunk_ids[live].tolist(), live.tolist(), strict=True))
        return self._slots

    @staticmethod
    def _groups_of(groups: Groups, entries: Sequence[Entry]) -> NDArray[np.int32]:
        return np.array([groups.number((e.document_id, e.allowed)) for e in entries], np.int32)

    def _facts(self) -> dict[str, Any]:
        return {"name": self._name, "dimensions": self._dimensions}

    def _is_ours(self, facts: dict[str, Any]) -> bool:
        return all(facts.get(key) == value for key, value in self._facts().items())

    def _load(self) -> bool:
        """Take the snapshot's state, if there is one that is whole."""
        found = snapshot.read(self._folder / _FILE)
        if found is None or not self._is_ours(found[0]):
            return False
        self._state = thawed(*found)
        self._slots, self._saved, self._num_unlinked = None, self._state.position, 0
        return True

    def _flush(self) -> None:
        state = self._state
        if state.position == self._saved and state.size == state.count:
            return
        path = self._folder / _FILE
        with _held(self._folder / _LOCK):
            if self._position_on_disk() <= state.position or not self._load():
                facts, sections = frozen(state)
                snapshot.write(path, {**self._facts(), **facts}, sections)
                self._load()

    def _position_on_disk(self) -> int:
        facts = snapshot.read_facts(self._folder / _FILE)
        return int(facts["position"]) if facts is not None and self._is_ours(facts) else -1


def _best(state: State, slots: NDArray[np.int64], scores: NDArray[np.float32], limit: int) -> list[Match]:
    """The `limit` best, equals by their number."""
    if limit < 1:
        return []
    if len(slots) > limit:
        least = np.partition(scores, len(scores) - limit)[len(scores) - limit]
        keep = scores >= least
        slots, scores = slots[keep], scores[keep]
    chunk_ids = state.chunk_ids[slots]
    order = np.lexsort((chunk_ids, -scores))[:limit]
    return _matches(chunk_ids[order], scores[order])


def _matches(chunk_ids: NDArray[np.int64], scores: NDArray[np.float32]) -> list[Match]:
    return [Match(*pair) for pair in zip(chunk_ids.tolist(), scores.tolist(), strict=True)]


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """The one writer of a folder's snapshot, among all processes."""
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
