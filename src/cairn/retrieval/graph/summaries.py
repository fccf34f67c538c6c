"""Communities of a view and what their passages say, in their own most central sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cairn.retrieval.graph.communities import find_communities
from cairn.retrieval.graph.mentions import pieces_of, read_passage
from cairn.retrieval.graph.view import View

_LEAST_ENTITIES, _LEAST_CHUNKS, _MOST_NAMES = 3, 2, 8
_MOST_SENTENCES, _FEWEST_WORDS, _MOST_WORDS = 3, 4, 60


@dataclass(frozen=True, slots=True)
class Draft:
    """A community before it has a summary."""

    entities: tuple[int, ...]
    """Places in the view of its most central ones, these first."""
    keys: frozenset[str]
    """Of all of them."""
    chunk_ids: tuple[int, ...]


def draft_communities(view: View) -> list[Draft]:
    """Communities of entities that go together; each passage belongs to the one it speaks of most."""
    first, second, strength = view.related
    links = list(zip(first.tolist(), second.tolist(), strength.tolist(), strict=True))
    central = np.bincount(first, strength, len(view.keys)) + np.bincount(second, strength, len(view.keys))
    groups = [group for group in find_communities(len(view.keys), links) if len(group) >= _LEAST_ENTITIES]
    if not groups:
        return []
    member = np.full(len(view.keys), -1)
    for number, group in enumerate(groups):
        member[group] = number
    entity, chunk, times = view.mentions
    of_group = member[entity] >= 0
    spoken = np.zeros((len(view.chunk_ids), len(groups)))
    np.add.at(
        spoken,
        (chunk[of_group], member[entity[of_group]]),
        times[of_group] * view.weights[entity[of_group]],
    )
    best = np.where(spoken.max(axis=1) > 0, spoken.argmax(axis=1), -1)
    drafts = []
    for number, group in enumerate(groups):
        chunk_ids = view.chunk_ids[best == number].tolist()
        if len(chunk_ids) >= _LEAST_CHUNKS:
            ranked = sorted(group, key=lambda each: (-central[each] * view.weights[each], each))
            keys = frozenset(view.keys[each] for each in group)
            drafts.append(Draft(tuple(ranked[:_MOST_NAMES]), keys, tuple(chunk_ids)))
    return drafts


def extractive_summary(view: View, draft: Draft, texts: Sequence[tuple[str, str]]) -> str:
    """The sentences that say most of a community's entities, in their order; `texts`: context and text."""
    sentences = list[tuple[str, frozenset[str]]]()
    for context, text in texts:
        pieces = pieces_of(context, text)
        held: list[set[str]] = [set() for _ in pieces]
        for mention in read_passage(context, text).mentions:
            key = view.aliases.get(mention.key, mention.key)
            for number in mention.sentences if key in draft.keys else ():
                held[number].add(key)
        headings = len(context.splitlines())
        for piece, keys in list(zip(pieces, held, strict=True))[headings:]:
            said = " ".join(piece.split())
            if _FEWEST_WORDS <= len(said.split()) <= _MOST_WORDS:
                sentences.append((said, frozenset(keys)))
    chosen, covered = list[int](), set[str]()
    while len(chosen) < _MOST_SENTENCES:
        # What is said already counts no more.
        worth = [sum(view.weights[view.places[key]] for key in keys - covered) for _, keys in sentences]
        best = max(range(len(worth)), key=lambda place: (worth[place], -place), default=0)
        if not worth or worth[best] <= 0:
            break
        chosen.append(best)
        covered |= sentences[best][1]
    return " ".join(sentences[place][0] for place in sorted(chosen))
