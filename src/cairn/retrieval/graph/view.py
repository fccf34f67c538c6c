"""The graph of the passages that somebody may see: its entities, and the passages near a question.

A view is worked out from the extracts of visible chunks and nothing else, so what a hidden chunk says moves
no number in it: not which words are names, not how rare an entity is, not what is one with what, not where a
walk leads. The same chunks in the same order give the same view to the last bit.

A walk goes from a passage to its entities, the rarer the likelier, and from an entity to its passages and to
entities that stand in one sentence with it more often than by chance; as in HippoRAG 2 (Gutiérrez et al.
2025, "From RAG to Memory"), with statistics in the place of a language model's triples.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.graph.pagerank import Links, links, pagerank
from cairn.retrieval.graph.relations import related_entities
from cairn.retrieval.graph.vocabulary import ChunkMentions, Vocabulary
from cairn.retrieval.graph.weighing import c_values, frequent_names, meanings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_DAMPING = 0.85
_MOST_SHARE, _MOST_ANYWAY = 0.1, 5
"""What more passages speak of than this share and this many leads nowhere."""
_TERM_WEIGHT = 0.2  # of a name: 1
_RELATED_SHARE = 0.2  # of what leaves an entity
_ENTITY_SEEDS = 0.5  # of where walks begin; the rest are passages


@dataclass(frozen=True, slots=True)
class View:
    """Entities and passages, each by its place; in a walk passages come after the entities."""

    chunk_ids: Ints
    """[chunks], ascending"""
    keys: tuple[str, ...]
    """[entities], sorted"""
    places: Mapping[str, int]
    """Of keys."""
    names: tuple[str, ...]
    """[entities]: as it stands most often."""
    num_chunks: Ints
    """[entities]: passages that speak of it."""
    is_name: NDArray[np.bool_]
    """[entities]"""
    weights: Floats
    """[entities]: what it tells that a passage speaks of it."""
    mentions: tuple[Ints, Ints, Floats]
    """Entity, place of a passage, and how much the one is spoken of in the other: [mentions] each."""
    related: tuple[Ints, Ints, Floats]
    """Two entities, the lesser first, and by how much they go together: [relations] each."""
    aliases: Mapping[str, str]
    """Keys of short forms, and of the long ones that they mean here."""
    walk: Links

    def near(self, query: Iterable[str], found: Mapping[int, float]) -> dict[int, float]:
        """Passages by how often a walk is there that begins at keys of a question and at passages.

        `found` has a score above 0 for each passage to begin at; those that are not in view are left out.
        """
        restart = self._restart(query, found)
        if not restart.any():
            return {}
        mass = pagerank(self.walk, restart / restart.sum(), damping=_DAMPING)[len(self.keys) :]
        return {int(self.chunk_ids[place]): float(mass[place]) for place in np.flatnonzero(mass)}

    def _restart(self, query: Iterable[str], found: Mapping[int, float]) -> Floats:
        at_entities, at_passages = np.zeros(len(self.keys)), np.zeros(len(self.chunk_ids))
        for key in query:
            place = self.places.get(self.aliases.get(key, key))
            if place is not None:
                at_entities[place] = self.weights[place]
        for place, chunk_id in enumerate(self.chunk_ids):
            at_passages[place] = found.get(int(chunk_id), 0.0)
        return np.concatenate(
            [
                share * part / max(part.sum(), 1e-300)
                for share, part in ((_ENTITY_SEEDS, at_entities), (1 - _ENTITY_SEEDS, at_passages))
            ]
        )


def build_view(chunks: Mapping[int, ChunkMentions], words: Vocabulary) -> View:
    """The view of these chunks."""
    chunk_ids = np.array(sorted(chunks), np.int64)
    parts = [chunks[each] for each in chunk_ids.tolist()]
    rows = np.concatenate([np.zeros((0, 5), np.int64), *(each.rows for each in parts)])
    owner = np.repeat(np.arange(len(parts)), [len(each.rows) for each in parts])
    size = len(words.words)
    meant = meanings(parts)
    canonical = np.arange(size)
    canonical[list(meant.keys())] = list(meant.values())
    keys = canonical[rows[:, 0]]
    counts = [np.bincount(keys, rows[:, column].astype(np.float64), size) for column in (2, 3, 4)]
    count, named, common = (np.asarray(each, np.float64) for each in counts)
    is_name = named > common

    # A passage may hold both a short form and its long one.
    pairs, same = np.unique(np.stack([keys, owner], 1), axis=0, return_inverse=True)
    times = np.bincount(same.ravel(), rows[:, 2], len(pairs))
    spread = np.bincount(pairs[:, 0], minlength=size)
    is_kept = (c_values(count, words) > 0) & (spread <= max(_MOST_ANYWAY, _MOST_SHARE * len(parts)))
    is_kept &= spread >= np.where(is_name, 1, 2)  # a term of one passage leads nowhere
    # In the order of words: their numbers, and with them sums, would depend on what was read first.
    kept = np.array(sorted(np.flatnonzero(is_kept).tolist(), key=words.words.__getitem__), np.int64)
    place = np.full(size, -1)
    place[kept] = np.arange(len(kept))

    length = np.log2(1 + np.array(words.num_words, np.float64)[kept])
    weights = np.log((len(parts) + 1) / np.maximum(spread[kept], 1)) * length
    weights *= np.where(is_name[kept], 1.0, _TERM_WEIGHT)
    entity, chunk = place[pairs[:, 0]], pairs[:, 1]
    order = np.lexsort((chunk, entity))
    order = order[entity[order] >= 0]
    mentions = entity[order], chunk[order], 1 + np.log(times[order])
    related = related_entities(parts, place[canonical], is_name[kept] | (length > 1))
    return View(
        chunk_ids=chunk_ids,
        keys=tuple(words.words[each] for each in kept),
        places={words.words[each]: number for number, each in enumerate(kept)},
        names=tuple(words.words[each] for each in frequent_names(place[keys], rows[:, 1:3], words)),
        num_chunks=spread[kept],
        is_name=is_name[kept],
        weights=weights,
        mentions=mentions,
        related=related,
        aliases={words.words[short]: words.words[long] for short, long in meant.items()},
        walk=_walk(weights, mentions, related, len(parts)),
    )


def _walk(
    weights: Floats,
    mentions: tuple[Ints, Ints, Floats],
    related: tuple[Ints, Ints, Floats],
    num_chunks: int,
) -> Links:
    entity, chunk, times = mentions
    first, second, strength = related
    count = len(weights)
    told = np.bincount(entity, times, count)
    tied = np.bincount(first, strength, count) + np.bincount(second, strength, count)
    scale = _RELATED_SHARE / (1 - _RELATED_SHARE) * told / np.maximum(tied, 1e-300)
    return links(
        np.concatenate([entity, count + chunk, first, second]),
        np.concatenate([count + chunk, entity, second, first]),
        np.concatenate([times, times * weights[entity], strength * scale[first], strength * scale[second]]),
        count + num_chunks,
    )
