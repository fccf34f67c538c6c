"""Interpolated modified Kneser-Ney n-grams over token ids: the baseline a neural model must beat.

Chen & Goodman 1998, "An empirical study of smoothing techniques for language modeling":
the highest order uses counts, lower orders the number of distinct left neighbours, each order
its own three discounts from its counts of counts; the unigram interpolates with 1/V.
Documents form one stream in which the end token separates them, as the packed model sees them.

All of it is arrays: an n-gram is the integer (id of its context) * V + last token, its id the
place among the sorted distinct ones, so counting is sorting and looking up is bisection.
Memory is about 40 bytes per training token and order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Order:
    """Tables of one order. Row j of `keys`, `counts`: an n-gram; index c of the others: a context."""

    keys: Ids
    counts: Ids
    totals: Floats
    backoff: Floats
    discounts: Floats
    """Discount by count: [0, D1, D2, D3+]."""


class KneserNey:
    """An n-gram model; `fit` builds it, `log2_probabilities` scores a stream of ids."""

    def __init__(self, order: int, vocab_size: int, separator: int, tables: list[_Order]) -> None:
        self.order = order
        self.vocab_size = vocab_size
        self.separator = separator
        self._tables = tables

    @classmethod
    def fit(cls, tokens: Ids, *, vocab_size: int, separator: int, order: int = 5) -> "KneserNey":
        """Count the stream `tokens` [T] of ids below `vocab_size`; `separator` stands before its start."""
        assert order >= 1
        assert len(tokens) > 0
        stream = _padded(tokens, order, separator)
        grams = [stream]
        keys_of: list[Ids] = [np.arange(vocab_size, dtype=np.int64)]
        for _ in range(1, order):
            contexts = np.concatenate([[0], grams[-1][:-1]])
            keys, ids = np.unique(contexts * vocab_size + stream, return_inverse=True)
            grams.append(ids.astype(np.int64))
            keys_of.append(keys)
        counts = _counts(grams, [len(keys) for keys in keys_of], order)
        tables = [
            _table(keys_of[k], counts[k], 1 if k == 0 else len(keys_of[k - 1]), vocab_size)
            for k in range(order)
        ]
        return cls(order, vocab_size, separator, tables)

    def log2_probabilities(self, tokens: Ids) -> Floats:
        """log2 P(token | the ones before it) for each of `tokens` [T]."""
        stream = _padded(tokens, self.order, self.separator)
        grams = stream
        probability = np.full(len(stream), 1.0 / self.vocab_size)
        for k, table in enumerate(self._tables):
            if k == 0:
                contexts, found = np.zeros_like(stream), stream
            else:
                contexts = np.concatenate([[-1], grams[:-1]])
                found = _find(table.keys, contexts, stream, self.vocab_size)
            probability = _interpolate(table, contexts, found, probability)
            grams = found
        return np.asarray(np.log2(probability[self.order - 1 :]))


def _padded(tokens: Ids, order: int, separator: int) -> Ids:
    padding = np.full(order - 1, separator, dtype=np.int64)
    return np.concatenate([padding, np.asarray(tokens, dtype=np.int64)])


def _counts(grams: list[Ids], sizes: list[int], order: int) -> list[Ids]:
    """Per order and n-gram: occurrences at the top, distinct left neighbours below."""
    first = order - 1  # n-grams that end in the padding predict nothing and are not counted
    counts = [np.bincount(grams[-1][first:], minlength=sizes[-1])]
    for k in range(order - 2, -1, -1):
        longer, place = np.unique(grams[k + 1][first:], return_index=True)
        assert len(longer) == len(place)
        counts.append(np.bincount(grams[k][first:][place], minlength=sizes[k]))
    return counts[::-1]


def _table(keys: Ids, counts: Ids, num_contexts: int, vocab_size: int) -> _Order:
    contexts = keys // vocab_size  # 0 for the unigrams, whose key is the token
    discounts = _discounts(counts)
    totals: Floats = np.bincount(contexts, weights=counts, minlength=num_contexts).astype(np.float64)
    freed = np.bincount(contexts, weights=discounts[np.minimum(counts, 3)], minlength=num_contexts)
    backoff = np.divide(freed, totals, out=np.ones(num_contexts), where=totals > 0)
    return _Order(keys, counts, totals, backoff, discounts)


def _discounts(counts: Ids) -> Floats:
    """D1, D2, D3+ of Chen & Goodman (eq. 26); a corpus too small to estimate one gets half its range."""
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == c)) for c in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return np.array([0.0, 0.5, 1.0, 1.5])
    y = n1 / (n1 + 2 * n2)
    raw = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    clipped: Floats = np.minimum(np.maximum(raw, 0.0), [0.0, 1.0, 2.0, 3.0])
    return clipped


def _find(keys: Ids, contexts: Ids, tokens: Ids, vocab_size: int) -> Ids:
    """Id of each n-gram (context, token), or -1 when it was never seen."""
    wanted = contexts * vocab_size + tokens
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where((contexts >= 0) & (keys[place] == wanted), place, -1)


def _interpolate(table: _Order, contexts: Ids, grams: Ids, lower: Floats) -> Floats:
    """One order's estimate over the next lower one's; an unseen context leaves it as it is."""
    known = contexts >= 0
    known[known] = table.totals[contexts[known]] > 0
    counts = np.where(grams >= 0, table.counts[grams], 0)
    kept = counts - table.discounts[np.minimum(counts, 3)]
    safe = np.where(known, contexts, 0)
    totals = np.maximum(table.totals[safe], 1.0)
    return np.where(known, kept / totals + table.backoff[safe] * lower, lower)
