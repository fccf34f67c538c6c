"""The native search by words against the one in numpy: the same finds, scores and order, bit for bit."""

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cairn.retrieval.embedded import lexicon, neighbours
from cairn.retrieval.embedded.lexicon import Range

native = neighbours.native()
pytestmark = pytest.mark.skipif(native is None, reason="no native module")


def made_ranges(rng: np.random.Generator, bounds: list[int], num_words: int) -> list[Range]:
    """Postings in ranges of slots; some words are in nearly all slots, some in hardly any, some in none."""
    ranges: list[Range] = []
    shares = 10.0 ** -rng.uniform(0, 5, num_words)
    for first, last in itertools.pairwise(bounds):
        found: Range = []
        for word, share in enumerate(shares):
            slots = np.flatnonzero(rng.random(last - first) < share).astype(np.int32) + np.int32(first)
            counts = np.minimum(rng.geometric(0.6, len(slots)), 255).astype(np.uint8)
            if len(slots):
                found.append((word, slots, counts))
        ranges.append(found)
    return ranges


def by_numpy(
    ranges: list[Range],
    weights: NDArray[np.float32],
    norms: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    ids: NDArray[np.int64],
    limit: int,
) -> tuple[list[int], list[float]]:
    slots, scores = lexicon.search(ranges, weights, norms, allowed)
    order = np.lexsort((ids[slots], -scores))[:limit]
    return slots[order].tolist(), scores[order].tolist()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 12_000),
    num_ranges=st.integers(1, 3),
    num_words=st.integers(1, 12),
    limit=st.sampled_from([1, 2, 10, 50, 5000]),
    share=st.sampled_from([0.0, 0.01, 0.5, 1.0]),
    has_few_lengths=st.booleans(),
)
def test_it_finds_what_numpy_finds(
    seed: int, size: int, num_ranges: int, num_words: int, limit: int, share: float, has_few_lengths: bool
) -> None:
    rng = np.random.default_rng(seed)
    bounds = sorted({0, size, *rng.integers(0, size, num_ranges - 1).tolist()})
    ranges = made_ranges(rng, bounds, num_words)
    weights = (10.0 ** rng.uniform(-2, 1.3, num_words)).astype(np.float32)
    # Entries of few lengths have equal scores, which only their ids tell apart.
    lengths = rng.integers(1, 3 if has_few_lengths else 400, size)
    norms = (0.3 + lengths / 100).astype(np.float32)
    group = rng.integers(0, 50, size).astype(np.int32)
    groups = (rng.random(50) < share).astype(np.uint8)
    ids = rng.permutation(size).astype(np.int64)
    assert native is not None
    slots, scores = native.best_by_words(
        ranges, weights=weights, norms=norms, group=group, groups=groups, ids=ids, limit=limit
    )
    expected = by_numpy(ranges, weights, norms, groups[group] == 1, ids, limit)
    assert (slots.tolist(), scores.tolist()) == expected


def test_arrays_that_do_not_fit_are_refused() -> None:
    assert native is not None
    fine = {
        "weights": np.ones(1, np.float32),
        "norms": np.ones(3, np.float32),
        "group": np.ones(3, np.int32),
        "groups": np.ones(2, np.uint8),
        "ids": np.arange(3, dtype=np.int64),
        "limit": 2,
    }

    def postings(word: int, *slots: int) -> list[Range]:
        return [[(word, np.array(slots, np.int32), np.ones(len(slots), np.uint8))]]

    assert native.best_by_words(postings(0, 0, 2), **fine)[0].tolist() == [0, 2]
    for ranges in (postings(1, 0), postings(-1, 0), postings(0, 3), postings(0, -1)):
        with pytest.raises(ValueError, match="word or slot"):
            native.best_by_words(ranges, **fine)
    with pytest.raises(ValueError, match="one norm, group and id"):
        native.best_by_words(postings(0, 0), **{**fine, "ids": np.arange(2, dtype=np.int64)})
    with pytest.raises(ValueError, match="one count"):
        native.best_by_words([[(0, np.zeros(2, np.int32), np.ones(1, np.uint8))]], **fine)


def test_threads_may_search_at_once() -> None:
    rng = np.random.default_rng(3)
    size = 6000
    ranges = made_ranges(rng, [0, size], 6)
    weights = np.linspace(0.1, 5, 6).astype(np.float32)
    norms = rng.uniform(0.4, 2, size).astype(np.float32)
    group, groups = np.zeros(size, np.int32), np.ones(1, np.uint8)
    ids = np.arange(size, dtype=np.int64)
    expected = by_numpy(ranges, weights, norms, np.ones(size, np.bool_), ids, 20)
    found = []

    def search() -> None:
        assert native is not None
        for _ in range(20):
            slots, scores = native.best_by_words(
                ranges, weights=weights, norms=norms, group=group, groups=groups, ids=ids, limit=20
            )
            found.append((slots.tolist(), scores.tolist()))

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 80
