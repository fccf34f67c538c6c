"""A state as the sections of a snapshot, and back. What is gone is left behind."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.embedded import lexicon, neighbours
from cairn.retrieval.embedded.access import Groups
from cairn.retrieval.embedded.lexicon import Segment
from cairn.retrieval.embedded.rows import Rows
from cairn.retrieval.embedded.snapshot import Array, Section, section
from cairn.retrieval.embedded.state import State

_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Vectors of slots, gathered little by little each time it is gone through."""

    rows: Rows
    slots: NDArray[np.int64]

    def __iter__(self) -> Iterator[Array]:
        for start in range(0, len(self.slots), _CHUNK):
            yield self.rows.take(self.slots[start : start + _CHUNK])


def frozen(state: State) -> tuple[dict[str, Any], dict[str, Section]]:
    """Facts for the header, and sections."""
    live = np.flatnonzero(state.group)
    used, group = np.unique(state.group[live], return_inverse=True)
    groups = [(document, sorted(labels)) for document, labels in (state.groups.all[n] for n in used)]
    words, postings = _lexicon(state, live)
    arrays: dict[str, Array] = {
        **neighbours.sections_of(state.graph, live, state.is_live),
        "chunk_ids": state.chunk_ids[live],
        "group": group.astype(np.int32) + 1,
        "lengths": state.lengths[live],
        "groups": _as_bytes(groups),
        "words": _as_bytes(words),
        "terms": postings.terms,
        "starts": postings.starts,
        "slots": postings.slots,
        "counts": postings.counts,
    }
    sections = {name: section(array) for name, array in arrays.items()}
    sections["vectors"] = Section("<f4", (len(live), state.rows.mapped.shape[1]), _Pieces(state.rows, live))
    return {"position": state.position, **neighbours.facts()}, sections


def _lexicon(state: State, live: NDArray[np.int64]) -> tuple[list[str], Segment]:
    """The words that are still there, and the postings under their new numbers."""
    if not state.segments:
        return [], lexicon.new_segment(0, [])
    moved = np.zeros(state.size, np.int32)
    moved[live] = np.arange(len(live), dtype=np.int32)
    one = lexicon.merged(state.segments, state.is_live, moved)
    words = list(state.terms)
    kept = [words[term] for term in one.terms.tolist()]
    return kept, Segment(np.arange(len(kept), dtype=np.int32), one.starts, one.slots, one.counts)


def thawed(facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> State:
    """The state of a snapshot; the vectors stay in the file."""
    groups = Groups()
    for document, labels in _from_bytes(arrays["groups"]):
        groups.number((document, frozenset(labels)))
    segment = Segment(*(np.array(arrays[name]) for name in ("terms", "starts", "slots", "counts")))
    words, rows = _from_bytes(arrays["words"]), Rows.over(arrays["vectors"])
    return State(
        facts["position"],
        np.array(arrays["chunk_ids"]),
        np.array(arrays["group"]),
        np.array(arrays["lengths"]),
        rows,
        (segment,) if len(segment.slots) else (),
        {word: number for number, word in enumerate(words)},
        groups,
        len(groups.all),
        neighbours.restored(rows, facts, arrays),
    )


def _as_bytes(value: object) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value, ensure_ascii=False).encode(), np.uint8)


def _from_bytes(array: Array) -> Any:
    return json.loads(array.tobytes())
