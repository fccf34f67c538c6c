"""What every `Index` must do, told once: a store's own tests inherit `Conformance` and say how to open it.

The truth is a dictionary of entries and a loop in numpy. Of the order by words only what all stores share is
asked for, since each has statistics of its own: who has none of the words is not found, who may be seen and
has one is.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar, Protocol

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from numpy.typing import NDArray

from cairn.core.errors import InvalidRequestError
from cairn.retrieval.index import Entry, Filter, Index, Match
from cairn.retrieval.terms import terms

DIMENSIONS = 8
EVERYTHING = Filter(labels=None)
WORDS = ("anchor", "barley", "cedar", "dragon", "ember", "falcon", "glacier", "harbour")
LABELS = ("everyone", "user:ada", "user:bob", "group:crew")
DOCUMENTS = ("a", 'b\'s "own"', "c/d.md", "ü")
_CLOSE = 2e-3
_OTHERS = 150


class Opener(Protocol):
    """Opens the index of a test's own place; what was there before is still there."""

    def __call__(self) -> Index: ...


def vector(seed: int) -> NDArray[np.float32]:
    """A direction of its own for every number."""
    found = np.random.default_rng(seed).standard_normal(DIMENSIONS)
    return np.asarray(found / np.linalg.norm(found), np.float32)


def entry(
    chunk_id: int,
    text: str = "anchor",
    *,
    document: str = "a",
    allowed: frozenset[str] = frozenset({"everyone"}),
) -> Entry:
    return Entry(chunk_id, document, text, vector(chunk_id), allowed)


def is_seen(each: Entry, where: Filter) -> bool:
    """The rule, once more and in plain words."""
    may = where.labels is None or any(label in each.allowed for label in where.labels)
    return may and (where.documents is None or each.document_id in where.documents)


def check_nearest(
    found: list[Match], truth: Mapping[int, Entry], query: NDArray[np.float32], limit: int, where: Filter
) -> None:
    """The true nearest that may be seen, and as many as there are."""
    cosines = {each.chunk_id: float(each.vector @ query) for each in truth.values() if is_seen(each, where)}
    assert {match.chunk_id for match in found} <= cosines.keys()
    assert len({match.chunk_id for match in found}) == len(found)
    best = sorted(cosines.values(), reverse=True)[:limit]
    assert [match.score for match in found] == pytest.approx(best, abs=_CLOSE)
    assert [cosines[match.chunk_id] for match in found] == pytest.approx(best, abs=_CLOSE)


def check_words(
    found: list[Match], truth: Mapping[int, Entry], query: str, limit: int, where: Filter
) -> None:
    """Whoever has a word of the query and may be seen, and no other."""
    asked = set(terms(query))
    fitting = {e.chunk_id for e in truth.values() if is_seen(e, where) and asked & set(terms(e.text))}
    chunks = [match.chunk_id for match in found]
    assert set(chunks) <= fitting
    assert len(set(chunks)) == len(chunks) == min(limit, len(fitting))
    scores = [match.score for match in found]
    assert scores == sorted(scores, reverse=True)


class Conformance:
    """A store's tests inherit this and give the fixture `opener`."""

    examples: ClassVar[int] = 20
    steps: ClassVar[int] = 20

    def test_a_new_one_is_empty(self, opener: Opener) -> None:
        index = opener()
        assert (index.dimensions, index.position, index.count()) == (DIMENSIONS, 0, 0)
        assert index.search(vector(1), 5, EVERYTHING) == []
        assert index.search_text("anchor", 5, EVERYTHING) == []
        index.close()

    def test_it_finds_the_nearest_and_the_words(self, opener: Opener) -> None:
        index = opener()
        truth = {n: entry(n, f"{WORDS[n % 8]} and {WORDS[(n * 3) % 8]}") for n in range(1, 60)}
        index.apply(59, list(truth.values()), [])
        check_nearest(index.search(vector(7), 10, EVERYTHING), truth, vector(7), 10, EVERYTHING)
        check_nearest(index.exact(vector(7), 10, EVERYTHING), truth, vector(7), 10, EVERYTHING)
        check_words(index.search_text("the Anchors", 10, EVERYTHING), truth, "the Anchors", 10, EVERYTHING)
        index.close()

    def test_rarer_words_and_more_of_them_weigh_more(self, opener: Opener) -> None:
        index = opener()
        index.apply(1, [entry(n, "barley " * 3 + "cedar wood stands") for n in range(1, 20)], [])
        index.apply(
            2, [entry(30, "one falcon over the harbour"), entry(31, "one ember over the harbour")], []
        )
        assert [m.chunk_id for m in index.search_text("barley falcon harbour", 2, EVERYTHING)] == [30, 31]
        index.close()

    def test_words_are_stemmed_and_of_any_case(self, opener: Opener) -> None:
        index = opener()
        index.apply(1, [entry(1, "He CONNECTED the connections"), entry(2, "A quiet harbour")], [])
        assert [m.chunk_id for m in index.search_text("connecting", 5, EVERYTHING)] == [1]
        assert [m.chunk_id for m in index.search_text("Harbours", 5, EVERYTHING)] == [2]
        index.close()

    def test_a_query_is_no_language(self, opener: Opener) -> None:
        index = opener()
        index.apply(1, [entry(1, "anchor"), entry(2, "cedar")], [])
        for query in (
            "\"'()*:^~&|!<->\\ --;{}[]%_ anchor",
            "anchor OR",
            "+anchor -cedar:x AND (",
            "anchor*^9'",
        ):
            assert 1 in {match.chunk_id for match in index.search_text(query, 5, EVERYTHING)}
        for query in ("", "   ", "()", "'"):
            assert index.search_text(query, 5, EVERYTHING) == []
        index.close()

    def test_no_label_no_sight(self, opener: Opener) -> None:
        index = opener()
        index.apply(
            1,
            [
                entry(1, allowed=frozenset()),
                entry(2, allowed=frozenset({"user:ada"})),
                entry(3, allowed=frozenset({"user:bob", "group:crew"})),
                entry(4, allowed=frozenset({"user:ada b", "user:ad", "user:a%", "user:ada,user:bob"})),
            ],
            [],
        )
        for labels, seen in (
            (frozenset[str](), set[int]()),
            (frozenset({"user:ada"}), {2}),
            (frozenset({"user:a_a", "user:%"}), set()),
            (frozenset({"group:crew", "user:eve"}), {3}),
            (frozenset({"user:ada", "user:bob"}), {2, 3}),
            (None, {1, 2, 3, 4}),
        ):
            where = Filter(labels)
            assert {m.chunk_id for m in index.search(vector(1), 9, where)} == seen
            assert {m.chunk_id for m in index.exact(vector(1), 9, where)} == seen
            assert {m.chunk_id for m in index.search_text("anchor", 9, where)} == seen
        index.close()

    def test_the_limit_holds_under_a_narrow_filter(self, opener: Opener) -> None:
        """Filters applied after the search would leave too few, or none."""
        index = opener()
        aside = np.eye(DIMENSIONS, dtype=np.float32)[0]
        many = [replace(entry(n, "anchor cedar"), vector=aside) for n in range(1, _OTHERS + 1)]
        few = [
            replace(
                entry(1000 + n, "anchor cedar", document="b", allowed=frozenset({"user:bob"})),
                vector=-vector(n),
            )
            for n in range(12)
        ]
        index.apply(1, many + few, [])
        truth = {each.chunk_id: each for each in many + few}
        for where in (Filter(frozenset({"user:bob"})), Filter(None, frozenset({"b"}))):
            check_nearest(index.search(aside, 10, where), truth, aside, 10, where)
            check_words(index.search_text("anchor", 10, where), truth, "anchor", 10, where)
        assert index.search(aside, 10, Filter(frozenset({"user:bob"}), frozenset({"a"}))) == []
        assert index.search(aside, 10, Filter(None, frozenset())) == []
        index.close()

    def test_the_same_changes_twice_are_once(self, opener: Opener) -> None:
        index = opener()
        index.apply(3, [entry(1), entry(2)], [])
        index.apply(5, [replace(entry(2), text="cedar", allowed=frozenset({"user:bob"}))], [1])
        for _ in range(2):
            index.apply(5, [replace(entry(2), text="cedar", allowed=frozenset({"user:bob"}))], [1])
            index.apply(3, [entry(1), entry(2)], [])
            assert (index.position, index.count()) == (5, 1)
            assert index.search_text("anchor", 9, EVERYTHING) == []
            assert index.search(vector(2), 9, Filter(frozenset({"everyone"}))) == []
            assert [m.chunk_id for m in index.search_text("cedar", 9, Filter(frozenset({"user:bob"})))] == [2]
        index.close()

    def test_a_chunk_may_go_and_come_in_one_change(self, opener: Opener) -> None:
        index = opener()
        index.apply(1, [entry(1)], [])
        index.apply(2, [replace(entry(1), text="ember"), replace(entry(1), text="falcon")], [1, 99])
        assert [m.chunk_id for m in index.search_text("falcon", 9, EVERYTHING)] == [1]
        assert index.search_text("anchor ember", 9, EVERYTHING) == []
        assert index.count() == 1
        index.close()

    def test_a_bad_vector_changes_nothing(self, opener: Opener) -> None:
        index = opener()
        index.apply(1, [entry(1)], [])
        for bad in (
            np.ones(3, np.float32),
            np.zeros(DIMENSIONS, np.float32),
            np.full(DIMENSIONS, np.nan, np.float32),
        ):
            with pytest.raises(InvalidRequestError):
                index.apply(2, [entry(2), replace(entry(3), vector=bad)], [1])
            with pytest.raises(InvalidRequestError):
                index.search(bad, 3, EVERYTHING)
        assert (index.position, index.count()) == (1, 1)
        assert [m.chunk_id for m in index.search(vector(1), 9, EVERYTHING)] == [1]
        index.close()

    def test_it_is_there_again_when_reopened(self, opener: Opener) -> None:
        index = opener()
        truth = {n: entry(n, WORDS[n % 8], document=DOCUMENTS[n % 4]) for n in range(1, 30)}
        index.apply(29, list(truth.values()), [])
        index.apply(31, [], [3, 4])
        del truth[3], truth[4]
        index.flush()
        index.close()
        again = opener()
        assert (again.position, again.count()) == (31, 27)
        where = Filter(frozenset({"everyone"}), frozenset(DOCUMENTS[:2]))
        check_nearest(again.search(vector(5), 8, where), truth, vector(5), 8, where)
        check_words(again.search_text("cedar dragon", 8, where), truth, "cedar dragon", 8, where)
        again.apply(40, [entry(50, "cedar")], [5])
        assert again.position == 40
        again.close()

    def test_random_changes_and_searches(self, make_opener: Callable[[], Opener]) -> None:
        """No entry without a matching label is ever returned, none that should be is missing."""
        run_state_machine_as_test(
            machine_of(make_opener),
            settings=settings(
                max_examples=self.examples,
                stateful_step_count=self.steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                derandomize=True,
                database=None,
            ),
        )


_chunks = st.integers(1, 24)
_allowed = st.frozensets(st.sampled_from(LABELS), max_size=2)
_entries = st.builds(
    lambda chunk, seed, words, document, allowed: Entry(
        chunk, document, " ".join(words), vector(seed), allowed
    ),
    _chunks,
    st.integers(0, 400),
    st.lists(st.sampled_from(WORDS), max_size=5),
    st.sampled_from(DOCUMENTS),
    _allowed,
)
_filters = st.builds(
    Filter,
    st.none() | st.frozensets(st.sampled_from(LABELS), max_size=3),
    st.none() | st.frozensets(st.sampled_from(DOCUMENTS), max_size=2),
)
_limits = st.sampled_from((1, 3, 10, 40))


def machine_of(make_opener: Callable[[], Opener]) -> type[RuleBasedStateMachine]:
    """The machine below, on a place of its own each time."""

    class Machine(IndexMachine):
        def __init__(self) -> None:
            super().__init__()
            self.opener = make_opener()

    return Machine


class IndexMachine(RuleBasedStateMachine):
    """An index beside a dictionary."""

    opener: Opener

    def __init__(self) -> None:
        super().__init__()
        self.truth: dict[int, Entry] = {}
        self.position = 0
        self.last: tuple[int, list[Entry], list[int]] = (0, [], [])

    @initialize()
    def open(self) -> None:
        self.index = self.opener()

    @rule(
        upserts=st.lists(_entries, max_size=8), deletes=st.lists(_chunks, max_size=4), step=st.integers(1, 3)
    )
    def apply(self, upserts: list[Entry], deletes: list[int], step: int) -> None:
        self.position += step
        self.last = (self.position, upserts, deletes)
        self.index.apply(*self.last)
        for chunk in deletes:
            self.truth.pop(chunk, None)
        self.truth.update((each.chunk_id, each) for each in upserts)

    @precondition(lambda self: self.position)
    @rule(stray=_entries)
    def apply_again(self, stray: Entry) -> None:
        self.index.apply(*self.last)
        self.index.apply(self.position - 1, [stray], [])

    @rule(seed=st.integers(0, 400), limit=_limits, where=_filters)
    def search(self, seed: int, limit: int, where: Filter) -> None:
        query = vector(seed)
        check_nearest(self.index.search(query, limit, where), self.truth, query, limit, where)
        check_nearest(self.index.exact(query, limit, where), self.truth, query, limit, where)

    @rule(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), limit=_limits, where=_filters)
    def search_text(self, words: list[str], limit: int, where: Filter) -> None:
        query = " ".join(words)
        check_words(self.index.search_text(query, limit, where), self.truth, query, limit, where)

    @rule()
    def reopen(self) -> None:
        self.index.flush()
        self.index.close()
        self.index = self.opener()
        assert (self.index.position, self.index.count()) == (self.position, len(self.truth))

    def teardown(self) -> None:
        self.index.close()
