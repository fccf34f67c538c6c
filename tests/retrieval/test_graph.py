"""The graph of the embedded index: recall floors, filters, what is gone, snapshots, threads."""

import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cairn.retrieval.embedded import EmbeddedIndex, neighbours
from cairn.retrieval.index import Entry, Filter, Match

pytestmark = pytest.mark.skipif(neighbours.native() is None, reason="no native module")
DIMENSIONS, COUNT = 40, 3000
Vectors = NDArray[np.float32]


def clustered(count: int, seed: int) -> Vectors:
    """Unit vectors in clusters, as those of texts are."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((60, DIMENSIONS))
    found = centres[random.integers(0, len(centres), count)] + 0.5 * random.standard_normal(
        (count, DIMENSIONS)
    )
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def entries(vectors: Vectors, first: int = 0) -> list[Entry]:
    """One in fifty is in the document `rare`; one in five allows the crew."""
    return [
        Entry(
            first + n,
            "rare" if n % 50 == 0 else "common",
            "",
            vector,
            frozenset({"group:crew" if n % 5 == 0 else "everyone"}),
        )
        for n, vector in enumerate(vectors)
    ]


@pytest.fixture(autouse=True)
def always_by_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """At this size every search would be exact."""
    monkeypatch.setattr(neighbours, "FEW", 0)
    monkeypatch.setattr(neighbours, "SEARCH_BREADTH", 48)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedIndex:
    index = EmbeddedIndex(tmp_path_factory.mktemp("filled"), DIMENSIONS)
    index.apply(1, entries(clustered(COUNT, 1)), [])
    return index


def ids(matches: list[Match]) -> set[int]:
    return {match.chunk_id for match in matches}


def recall(index: EmbeddedIndex, where: Filter, num_queries: int = 60) -> float:
    """Share of the true ten nearest that a search finds."""
    queries = clustered(num_queries, 2)
    pairs = [(index.search(query, 10, where), index.exact(query, 10, where)) for query in queries]
    assert all(len(found) == len(best) for found, best in pairs)
    return sum(len(ids(found) & ids(best)) for found, best in pairs) / sum(len(best) for _, best in pairs)


@pytest.mark.parametrize(
    ("where", "floor"),
    [
        (Filter(None), 0.97),
        (Filter(frozenset({"everyone"})), 0.97),
        (Filter(frozenset({"group:crew"})), 0.97),
        (Filter(frozenset({"group:crew"}), frozenset({"rare"})), 0.97),
    ],
)
def test_recall(filled: EmbeddedIndex, where: Filter, floor: float) -> None:
    assert recall(filled, where) >= floor


def test_recall_holds_when_most_has_been_replaced(tmp_path: Path) -> None:
    index = EmbeddedIndex(tmp_path, DIMENSIONS)
    index.apply(1, entries(clustered(1500, 3)), [])
    for round_ in range(4):
        gone = list(range(round_ * 375, (round_ + 1) * 375))
        index.apply(2 + round_, entries(clustered(375, 4 + round_), first=10_000 * (round_ + 1)), gone)
    assert index.count() == 1500
    assert recall(index, Filter(None)) >= 0.97
    index.flush()
    assert index.num_gone == 0
    assert recall(index, Filter(None)) >= 0.97


def test_a_snapshot_brings_the_same_graph_back(filled: EmbeddedIndex, tmp_path: Path) -> None:
    index = EmbeddedIndex(tmp_path, DIMENSIONS)
    index.apply(1, entries(clustered(700, 1)), [])
    queries = clustered(40, 2)
    before = [index.search(query, 10, Filter(None)) for query in queries]
    index.flush()
    again = EmbeddedIndex(tmp_path, DIMENSIONS)
    assert [again.search(query, 10, Filter(None)) for query in queries] == before
    again.apply(2, entries(clustered(300, 9), first=5000), [])
    assert recall(again, Filter(None)) >= 0.97


def test_a_snapshot_without_a_graph_gets_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(neighbours, "native", lambda: None)
        plain = EmbeddedIndex(tmp_path, DIMENSIONS)
        plain.apply(1, entries(clustered(700, 1)), [])
        plain.flush()
    assert recall(EmbeddedIndex(tmp_path, DIMENSIONS), Filter(None)) >= 0.97


def test_all_may_go_and_others_come(tmp_path: Path) -> None:
    index = EmbeddedIndex(tmp_path, DIMENSIONS)
    index.apply(1, entries(clustered(400, 1)), [])
    index.apply(2, [], list(range(400)))
    assert index.search(clustered(1, 2)[0], 10, Filter(None)) == []
    index.apply(3, entries(clustered(400, 5), first=1000), [])
    assert recall(index, Filter(None)) >= 0.97


def test_searches_go_on_while_one_thread_writes(tmp_path: Path) -> None:
    """What a search returns is there, may be seen, and is scored by its own vector."""
    index = EmbeddedIndex(tmp_path, DIMENSIONS)
    vectors = clustered(2400, 1)
    index.apply(1, entries(vectors[:400]), [])
    queries, failures, done = clustered(20, 2), list[str](), threading.Event()

    def read() -> None:
        while not done.is_set():
            for query in queries:
                found = index.search(query, 10, Filter(frozenset({"group:crew"})))
                wrong = [
                    m for m in found if m.chunk_id % 5 or abs(m.score - vectors[m.chunk_id] @ query) > 1e-5
                ]
                if len(found) != 10 or wrong:
                    failures.append(f"{len(found)} {wrong}")
                    return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for start in range(400, 2400, 100):
        added = entries(vectors[start : start + 100], first=start)
        index.apply(start, added, list(range(start - 400, start - 350)))
        if start % 500 == 0:
            index.flush()
    done.set()
    for reader in readers:
        reader.join()
    assert not failures


def test_links_that_are_none_are_refused() -> None:
    module = neighbours.native()
    assert module is not None
    vectors = clustered(50, 1)
    graph = module.Graph(DIMENSIONS, degree=4, breadth=16)
    graph.add(vectors)
    levels, base, upper = graph.exported(np.arange(50))
    for broken in (
        (levels[:-1], base, upper),
        (levels, base[:-1], upper),
        (levels, np.full_like(base, 50), upper),
        (levels, np.where(np.arange(len(base)) % 9 == 1, 50, base).astype(np.uint32), upper),
        (levels + np.uint8(1), base, upper),
        (levels, base, upper[:-1]),
    ):
        with pytest.raises(ValueError, match="no links"):
            module.Graph(DIMENSIONS, degree=4, breadth=16).restore(vectors, *broken)
    with pytest.raises(ValueError, match="dimensions"):
        graph.search(np.ones(3, np.float32), 5, np.ones(50, np.int32), np.ones(2, np.uint8))
    with pytest.raises(ValueError, match="not there"):
        graph.scan(vectors[0], 5, np.array([3, 50]))
    for group in (np.full(50, 7, np.int32), np.full(50, -1, np.int32)):
        assert len(graph.search(vectors[0], 5, group, np.ones(2, np.uint8))) == 0
