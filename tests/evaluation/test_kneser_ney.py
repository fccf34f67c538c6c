"""The vectorised model against a dictionary implementation written from the paper."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.evaluation import KneserNey

SEPARATOR = 0


class Naive:
    """Interpolated modified Kneser-Ney with dictionaries, one n-gram at a time."""

    def __init__(self, tokens: list[int], vocab_size: int, order: int) -> None:
        self.order, self.vocab_size = order, vocab_size
        stream = [SEPARATOR] * (order - 1) + tokens
        top = [tuple(stream[i - order + 1 : i + 1]) for i in range(order - 1, len(stream))]
        self.counts: dict[int, Counter[tuple[int, ...]]] = {order: Counter(top)}
        for n in range(order - 1, 0, -1):
            distinct = {gram[-(n + 1) :] for gram in top}
            self.counts[n] = Counter(gram[1:] for gram in distinct)
        self.discounts = {n: self._discounts(counts) for n, counts in self.counts.items()}
        self.totals: dict[int, Counter[tuple[int, ...]]] = {}
        self.freed: dict[int, dict[tuple[int, ...], float]] = {}
        for n, counts in self.counts.items():
            self.totals[n] = Counter()
            self.freed[n] = defaultdict(float)
            for gram, count in counts.items():
                self.totals[n][gram[:-1]] += count
                self.freed[n][gram[:-1]] += self.discounts[n][min(count, 3)]

    def _discounts(self, counts: Counter[tuple[int, ...]]) -> list[float]:
        n1, n2, n3, n4 = (sum(1 for c in counts.values() if c == k) for k in (1, 2, 3, 4))
        if not (n1 and n2 and n3 and n4):
            return [0.0, 0.5, 1.0, 1.5]
        y = n1 / (n1 + 2 * n2)
        raw = [0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
        return [min(max(value, 0.0), float(top)) for top, value in enumerate(raw)]

    def probability(self, history: tuple[int, ...], token: int, n: int) -> float:
        if n == 0:
            return 1 / self.vocab_size
        context = history[len(history) - n + 1 :]
        lower = self.probability(history, token, n - 1)
        total = self.totals[n][context]
        if not total:
            return lower
        count = self.counts[n][(*context, token)]
        kept = count - self.discounts[n][min(count, 3)]
        return (kept + self.freed[n][context] * lower) / total

    def log2_probabilities(self, tokens: list[int]) -> list[float]:
        stream = [SEPARATOR] * (self.order - 1) + tokens
        return [
            math.log2(self.probability(tuple(stream[i - self.order + 1 : i]), stream[i], self.order))
            for i in range(self.order - 1, len(stream))
        ]


ids = st.lists(st.integers(0, 6), min_size=1, max_size=120)


@settings(max_examples=60, deadline=None)
@given(training=ids, held_out=ids, order=st.integers(1, 5))
def test_it_equals_the_naive_implementation(training: list[int], held_out: list[int], order: int) -> None:
    model = KneserNey.fit(np.array(training), vocab_size=7, separator=SEPARATOR, order=order)
    got = model.log2_probabilities(np.array(held_out))
    expected = Naive(training, 7, order).log2_probabilities(held_out)
    np.testing.assert_allclose(got, expected, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(training=ids, context=st.lists(st.integers(0, 6), max_size=6), order=st.integers(1, 5))
def test_probabilities_sum_to_one(training: list[int], context: list[int], order: int) -> None:
    model = KneserNey.fit(np.array(training), vocab_size=7, separator=SEPARATOR, order=order)
    total = sum(2 ** model.log2_probabilities(np.array([*context, token]))[-1] for token in range(7))
    assert total == pytest.approx(1.0, abs=1e-9)


def test_discounts_come_from_the_counts_of_counts() -> None:
    rng = np.random.default_rng(0)
    training = rng.zipf(1.5, 5000).clip(max=49)
    model = KneserNey.fit(training, vocab_size=50, separator=SEPARATOR, order=3)
    expected = Naive(training.tolist(), 50, 3)
    for n in (1, 2, 3):
        np.testing.assert_allclose(model._tables[n - 1].discounts, expected.discounts[n])
    assert 0 < expected.discounts[3][1] < 1
