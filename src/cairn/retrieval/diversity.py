"""Diversity: passages that say the same as one above them move down (MMR, Carbonell and Goldstein 1998)."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def diversified(
    scores: Mapping[int, float], vectors: Mapping[int, NDArray[np.float32]], diversity: float, limit: int
) -> list[int]:
    """The `limit` best chunks; 0 orders by score alone, 1 by being unlike what was chosen before.

    Scores are scaled to 0 to 1 first; a chunk without a vector is like no other.
    """
    ids = list(scores)
    if not ids:
        return []
    values = np.array([scores[each] for each in ids])
    width = float(np.ptp(values))
    values = (values - values.min()) / width if width else np.ones(len(ids))
    size = len(next(iter(vectors.values()))) if vectors else 1
    rows = np.array([vectors.get(each, np.zeros(size, np.float32)) for each in ids])
    likeness, chosen = np.zeros(len(ids)), list[int]()
    is_left = np.ones(len(ids), np.bool_)
    while len(chosen) < min(limit, len(ids)):
        worth = np.where(is_left, (1 - diversity) * values - diversity * likeness, -np.inf)
        best = int(worth.argmax())
        chosen.append(best)
        is_left[best] = False
        likeness = np.maximum(likeness, rows @ rows[best])
    return [ids[each] for each in chosen]
