"""Fusion, diversity, reranking and highlights on orders small enough to be checked by hand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.core import InvalidRequestError
from cairn.registry import Registry
from cairn.retrieval.catalogue import create_collection
from cairn.retrieval.collection import Collection
from cairn.retrieval.config import CollectionConfig
from cairn.retrieval.diversity import diversified
from cairn.retrieval.fusion import calibrated, reciprocal
from cairn.retrieval.index import Match
from cairn.retrieval.search import SearchOptions, find
from tests.retrieval.conftest import ANN, document
from tests.retrieval.exact import ExactIndexes, WordEmbedder, encoders

DENSE = SearchOptions(depth="dense")


def ranking(*pairs: tuple[int, float]) -> list[Match]:
    return [Match(chunk_id, score) for chunk_id, score in pairs]


def test_reciprocal_ranks_add_up() -> None:
    fused = reciprocal([ranking((1, 9.0), (2, 8.0)), ranking((2, 0.9), (3, 0.1))])
    assert fused == {2: 1 / 62 + 1 / 61, 1: 1 / 61, 3: 1 / 62}
    assert list(fused) == [2, 1, 3]


def test_calibrated_scores_keep_how_far_the_best_stands_out() -> None:
    fused = calibrated([ranking((1, 10.0), (2, 2.0), (3, 0.0)), ranking((2, 0.9), (1, 0.8), (3, 0.7))])
    assert list(fused) == [1, 2, 3]
    assert fused == pytest.approx({1: 0.75, 2: 0.6, 3: 0.0})
    assert calibrated([ranking((1, 5.0)), []]) == {1: 0.5}


scores = st.lists(
    st.tuples(st.integers(1, 20), st.floats(-5, 5)), unique_by=lambda pair: pair[0], max_size=20
)


@given(scores, scores)
def test_fusion_loses_and_invents_nothing(
    first: list[tuple[int, float]], second: list[tuple[int, float]]
) -> None:
    rankings = [ranking(*first), ranking(*second)]
    for fuse in (reciprocal, calibrated):
        fused = fuse(rankings)
        assert set(fused) == {match.chunk_id for each in rankings for match in each}
        assert list(fused.values()) == sorted(fused.values(), reverse=True)


def test_diversity_moves_the_same_down() -> None:
    vectors = {
        1: np.array([1, 0], np.float32),
        2: np.array([1, 0], np.float32),
        3: np.array([0, 1], np.float32),
    }
    values = {1: 1.0, 2: 0.9, 3: 0.5}
    assert diversified(values, vectors, 0.0, 3) == [1, 2, 3]
    assert diversified(values, vectors, 0.6, 3) == [1, 3, 2]
    assert diversified(values, {}, 0.6, 2) == [1, 2]
    assert diversified({}, {}, 0.5, 3) == []


class Longest:
    """Thinks most of long passages."""

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        return [float(len(passage)) for passage in passages]


def test_the_reranker_has_the_last_word(registry: Registry, indexes: ExactIndexes) -> None:
    create_collection(registry, "notes", owner="ann", config=CollectionConfig(reranked=2))
    models = replace(encoders(), reranker=Longest())
    with Collection.open(registry, "notes", models, indexes) as collection:
        for name, text in (("a", "canoe"), ("b", "canoe and more"), ("c", "nothing of it at all, but long")):
            collection.put(document(name, text))
        fused = find(collection, "canoe", ANN, SearchOptions(depth="fused"))
        assert [hit.passage.name for hit in fused] == ["a", "b", "c"]
        hits = find(collection, "canoe", ANN, SearchOptions(limit=2))
        assert [hit.passage.name for hit in hits] == ["b", "a"]
        assert hits[0].stages["reranked"] == len("canoe and more")
        # Of two passages the better has spread 1, the other -1, and the reranker counts more.
        assert [hit.score for hit in hits] == pytest.approx([0.1, -0.1])
        lexical = find(collection, "canoe", ANN, SearchOptions(depth="lexical"))
        assert [set(hit.stages) for hit in lexical] == [{"lexical"}, {"lexical"}]


def test_feedback_moves_towards_what_is_like_the_best_two(registry: Registry, indexes: ExactIndexes) -> None:
    texts = {
        "wind": "glider wind",
        "river": "paddle river",
        "first": "canoe paddle",
        "second": "paddle canoe",
    }
    found = {}
    for feedback in (0.0, 0.6):
        config = CollectionConfig(feedback=feedback)
        create_collection(registry, f"notes {feedback}", owner="ann", config=config)
        with Collection.open(registry, f"notes {feedback}", encoders(), indexes) as collection:
            for name, text in texts.items():
                collection.put(document(name, text))
            hits = find(collection, "canoe", ANN, SearchOptions())
            found[feedback] = {hit.passage.name: hit.stages for hit in hits}
            assert all("feedback" not in hit.stages for hit in find(collection, "canoe", ANN, DENSE))
    assert all("feedback" not in stages for stages in found[0.0].values())
    query, best, river = WordEmbedder().embed(["canoe", "canoe paddle", "paddle river"]).vectors
    moved = query + 0.6 * best
    stages = found[0.6]
    assert stages["river"]["feedback"] == pytest.approx(river @ moved / np.linalg.norm(moved), abs=1e-6)
    gained = {name: each["feedback"] - each["dense"] for name, each in stages.items()}
    assert gained["river"] > gained["wind"]
    words, nearness = (
        [Match(n, each[stage]) for n, each in enumerate(stages.values()) if stage in each]
        for stage in ("lexical", "feedback")
    )
    fused = calibrated([words, nearness])
    assert [each["fused"] for each in stages.values()] == pytest.approx([fused[n] for n in range(4)])


def test_what_was_closed_a_moment_ago_moves_no_query(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which passages are like a hidden one is not to be read off the scores."""

    def nearness() -> dict[str, float]:
        hits = find(collection, "canoe", ANN, SearchOptions())
        return {hit.passage.name: hit.stages["feedback"] for hit in hits}

    for name, text in (("wind", "glider wind"), ("river", "paddle river")):
        collection.put(document(name, text))
    alone = nearness()
    hidden = collection.put(document("secret", "canoe glider"))
    index = collection.index()
    assert nearness()["wind"] != alone["wind"]
    monkeypatch.setattr(collection, "index", lambda: index)  # it hears of nothing any more
    collection.relabel([hidden.document_id], ["user:bob"])
    assert nearness() == alone


def test_a_limit_is_at_least_one() -> None:
    with pytest.raises(InvalidRequestError, match="1 or more"):
        SearchOptions(limit=0)


def test_only_some_documents(collection: Collection) -> None:
    first, second = (collection.put(document(name, "canoe")) for name in ("a.md", "b.md"))
    for each in (first, second):
        options = SearchOptions(documents=frozenset({each.document_id}))
        [hit] = find(collection, "canoe", ANN, options)
        assert hit.passage.document_id == each.document_id


def test_what_is_dropped_at_the_second_look_is_made_up_for(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that still thinks the best are open costs no places: the next ones move up."""
    for n in range(6):
        collection.put(document(f"{n}.md", f"canoe {'wood ' * n}"))
    index = collection.index()
    monkeypatch.setattr(collection, "index", lambda: index)  # it hears of nothing any more
    best = find(collection, "canoe", ANN, SearchOptions(limit=2))
    collection.relabel([hit.passage.document_id for hit in best], ["user:bob"])
    found = find(collection, "canoe", ANN, SearchOptions(limit=3))
    assert len(found) == 3
    assert not {hit.passage.name for hit in found} & {hit.passage.name for hit in best}


def test_a_ranking_may_count_more_than_others() -> None:
    one, other = ranking((1, 9.0), (2, 8.0)), ranking((2, 0.9), (1, 0.1))
    assert list(reciprocal([one, other], [3.0, 1.0])) == [1, 2]
    assert list(reciprocal([one, other], [1.0, 3.0])) == [2, 1]
    assert calibrated([one, other], [1.0, 3.0]) == {2: 0.75, 1: 0.25}
