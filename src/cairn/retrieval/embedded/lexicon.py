"""BM25 over slots (Robertson and Zaragoza 2009): postings in a few segments that merge as they grow.

Entries that are gone count in the statistics until their segment is merged, as in Lucene.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

K1, B = 1.2, 0.75
_MOST_COUNT = 255


@dataclass(frozen=True, slots=True)
class Segment:
    """Postings sorted by term, then slot."""

    terms: NDArray[np.int32]
    """[terms], ascending"""
    starts: NDArray[np.int64]
    """[terms + 1]"""
    slots: NDArray[np.int32]
    counts: NDArray[np.uint8]

    def of(self, term: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Slots and counts of a term."""
        place = int(np.searchsorted(self.terms, np.int32(term)))  # of its own type, or all are copied
        if place == len(self.terms) or self.terms[place] != term:
            return self.slots[:0], self.counts[:0]
        span = slice(int(self.starts[place]), int(self.starts[place + 1]))
        return self.slots[span], self.counts[span]

    def each_term(self) -> NDArray[np.int32]:
        """[postings]: the term of each."""
        return np.repeat(self.terms, np.diff(self.starts))


def new_segment(first_slot: int, texts: Sequence[Sequence[int]]) -> Segment:
    """Of the terms of texts that lie in following slots."""
    sizes = np.array([len(text) for text in texts], np.int64)
    slots = np.repeat(np.arange(first_slot, first_slot + len(texts), dtype=np.int64), sizes)
    terms = np.fromiter((term for text in texts for term in text), np.int64, int(sizes.sum()))
    pairs, counts = np.unique(terms << 32 | slots, return_counts=True)
    return _segment(
        (pairs >> 32).astype(np.int32),
        (pairs & 0xFFFFFFFF).astype(np.int32),
        np.minimum(counts, _MOST_COUNT).astype(np.uint8),
    )


def _segment(terms: NDArray[np.int32], slots: NDArray[np.int32], counts: NDArray[np.uint8]) -> Segment:
    found, starts = np.unique(terms, return_index=True)
    return Segment(found, np.append(starts, len(terms)).astype(np.int64), slots, counts)


def merged(
    segments: Sequence[Segment], is_live: NDArray[np.bool_], moved: NDArray[np.int32] | None = None
) -> Segment:
    """One segment of several in order of slots, without what is gone; `moved`: the new slot of each."""
    terms = np.concatenate([each.each_term() for each in segments])
    slots = np.concatenate([each.slots for each in segments])
    counts = np.concatenate([each.counts for each in segments])
    keep = is_live[slots]
    terms, slots, counts = terms[keep], slots[keep], counts[keep]
    order = np.argsort(terms, kind="stable")
    slots = slots[order]
    return _segment(terms[order], slots if moved is None else moved[slots], counts[order])


def with_segment(
    segments: tuple[Segment, ...], added: Segment, is_live: NDArray[np.bool_]
) -> tuple[Segment, ...]:
    """Each segment is half the one before it or less, so there are few and a posting seldom moves."""
    parts = [*segments, added]
    while len(parts) > 1 and len(parts[-1].slots) * 2 > len(parts[-2].slots):
        parts[-2:] = [merged(parts[-2:], is_live)]
    return tuple(parts)


Range = list[tuple[int, NDArray[np.int32], NDArray[np.uint8]]]
"""Of one segment: the place of a word among those of the query, its slots and counts."""


def postings_of(
    segments: Sequence[Segment], query: Sequence[int], num_entries: int
) -> tuple[list[Range], NDArray[np.float32]]:
    """Postings of a query's terms, and what each is worth: its rarity, times how often it is asked for."""
    ranges: list[Range] = [[] for _ in segments]
    weights = []
    for place, (term, count) in enumerate(Counter(query).items()):
        num_found = 0
        for segment, found in zip(segments, ranges, strict=True):
            slots, counts = segment.of(term)
            if len(slots):
                found.append((place, slots, counts))
                num_found += len(slots)
        rarity = float(np.log1p((num_entries - num_found + 0.5) / (num_found + 0.5)))
        weights.append(rarity * count * (K1 + 1))
    return ranges, np.array(weights, np.float32)


def search(
    ranges: Sequence[Range],
    weights: NDArray[np.float32],
    norms: NDArray[np.float32],
    allowed: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Slots that are allowed and have a term, and their scores.

    `norms` [slots] is K1 * (1 - B + B * length / mean length). `native/words.h` finds the best of them, with
    the same scores.
    """
    scores = np.zeros(len(norms), np.float32)
    for found in ranges:
        for place, slots, counts in found:
            count = counts.astype(np.float32)
            worth = norms[slots]
            worth += count
            np.divide(count, worth, out=worth)
            worth *= weights[place]
            scores[slots] += worth
    scores *= allowed
    found_slots = np.flatnonzero(scores)
    return found_slots, scores[found_slots]
