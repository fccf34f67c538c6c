"""Which entities go together: they share sentences more often than chance would have it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.graph.vocabulary import ChunkMentions

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_WINDOW = 8
"""In a sentence of very many entities, each is paired with so many after it."""
_MOST_SENTENCES = 1 << 20  # of a chunk


def related_entities(
    parts: Sequence[ChunkMentions], place: Ints, is_telling: NDArray[np.bool_]
) -> tuple[Ints, Ints, Floats]:
    """Pairs, the lesser first, with their normalised pointwise mutual information where it is above 0.

    `place` has the entity of each key, -1 for none; only telling ones [entities] are paired. (Bouma 2009,
    "Normalized (Pointwise) Mutual Information in Collocation Extraction".)
    """
    rows = np.concatenate([np.zeros((0, 2), np.int64), *(each.places for each in parts)])
    owner = np.repeat(np.arange(len(parts)), [len(each.places) for each in parts])
    sentences, sentence = np.unique(owner * _MOST_SENTENCES + rows[:, 1], return_inverse=True)
    entity = place[rows[:, 0]]
    is_held = np.append(is_telling, False)[entity]  # the last is that of -1
    events = np.unique(np.stack([sentence[is_held], entity[is_held]], 1), axis=0)
    alone = np.bincount(events[:, 1], minlength=len(is_telling)) / max(len(sentences), 1)
    pairs = [np.zeros((0, 2), np.int64)]
    for step in range(1, _WINDOW):
        is_same = events[step:, 0] == events[:-step, 0]
        pairs.append(np.stack([events[:-step, 1][is_same], events[step:, 1][is_same]], 1))
    both, together = np.unique(np.concatenate(pairs), axis=0, return_counts=True)
    share = together / max(len(sentences), 1)
    chance = alone[both[:, 0]] * alone[both[:, 1]]
    # Where every sentence has both, nothing is learnt from it.
    strength = np.log(share / chance) / -np.log(np.minimum(share, 1 - 1e-9))
    is_tied = strength > 0
    return both[is_tied, 0], both[is_tied, 1], strength[is_tied]
