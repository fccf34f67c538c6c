"""What entities mean, what they are worth and how they are called, over the passages of a view."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.graph.vocabulary import ChunkMentions, Vocabulary

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def meanings(parts: Sequence[ChunkMentions]) -> dict[int, int]:
    """Keys of short forms that stand for one thing alone here, and of what they stand for."""
    meant: dict[int, set[int]] = {}
    for each in parts:
        for short, long in each.aliases:
            meant.setdefault(short, set()).add(long)
    found = {short: longs.pop() for short, longs in meant.items() if len(longs) == 1}
    return {short: long for short, long in found.items() if long not in found}


def c_values(count: Floats, words: Vocabulary) -> Floats:
    """What phrases are worth that may be parts of longer ones; 0 where they never stand without one.

    C-value (Frantzi, Ananiadou and Mima 2000), with one added to lengths so that words have a value too.
    """
    phrase, part = np.array(words.parts, np.int64).reshape(-1, 2).T
    both = (count[phrase] > 0) & (count[part] > 0)
    phrase, part = phrase[both], part[both]
    around = np.bincount(part, count[phrase], len(count))
    num_around = np.bincount(part, minlength=len(count))
    length = np.log2(1 + np.array(words.num_words, np.float64))
    return np.asarray(length * (count - around / np.maximum(num_around, 1)), np.float64)


def frequent_names(entity: Ints, called: Ints, words: Vocabulary) -> list[int]:
    """The most frequent name of each entity, of equals the first by the alphabet; -1 is no entity.

    `called` [mentions, 2] has names and how often each stands there.
    """
    is_held = entity >= 0
    pairs, same = np.unique(np.stack([entity, called[:, 0]], 1)[is_held], axis=0, return_inverse=True)
    times = np.bincount(same.ravel(), called[is_held, 1], len(pairs))
    best: dict[int, tuple[float, str, int]] = {}
    for (each, name), count in zip(pairs.tolist(), times.tolist(), strict=True):
        rank = (-count, words.words[name], name)
        best[each] = min(best.get(each, rank), rank)
    return [best[each][2] for each in range(len(best))]
