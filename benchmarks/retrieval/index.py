"""The embedded index on 100,000 real passages, and beside it Chroma, LanceDB and Qdrant's local mode.

Passages and vectors come from `benchmarks.retrieval.books`; 300 passages that are not in the index are the
queries, their vectors and their first nine words. Every search has a reader's labels. Peers are searched in
turn with Cairn, on the same queries, at equal recall: a peer with its search widened until it finds as much
as Cairn, and where it finds more, Cairn widened until it does too (up to 0.995: Qdrant compares all).

    nice -n 19 python -m benchmarks.retrieval.books     (hours on two cores, once)
    python -m benchmarks.retrieval.index [--count 100000] [--rounds 5] [--no-record]

Peers come with pip install 'cairn[stores]'; one that is missing is left out and said.
"""

import argparse
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.record import in_turn, record
from benchmarks.retrieval.books import DIMENSIONS, FOLDER, Passages, load
from numpy.typing import NDArray

from cairn.retrieval.config import CollectionConfig
from cairn.retrieval.embedded import EmbeddedIndex, neighbours
from cairn.retrieval.encoders import unit_length
from cairn.retrieval.fusion import calibrated
from cairn.retrieval.index import Entry, Filter

Vectors = NDArray[np.float32]
Search = Callable[[Vectors], Sequence[int]]
NUM_QUERIES, LIMIT = 300, 10
READER = frozenset({"everyone", "user:ada"})
BREADTHS = (64, 96, 128, 192, 256, 384, 512, 768)
COMMAND = "python -m benchmarks.retrieval.index"
_BEST = 0.995


@dataclass(frozen=True, slots=True)
class Task:
    """What is searched, and what is right."""

    passages: Passages
    documents: list[str]
    queries: Vectors
    words: list[str]
    truth: list[set[int]]

    @property
    def size(self) -> int:
        return len(self.documents)

    @property
    def vectors(self) -> Vectors:
        return self.passages.vectors[: self.size]


def task(count: int, folder: Path) -> Task:
    passages = load(count + NUM_QUERIES, folder)
    size = len(passages) - NUM_QUERIES
    assert size > 0, "no vectors yet: run benchmarks.retrieval.books"
    documents = [f"{book}/{n % 10}" for n, book in enumerate(passages.books[:size])]
    queries = np.ascontiguousarray(passages.vectors[size:])
    words = [" ".join(text.split()[:9]) for text in passages.texts[size:]]
    truth = [nearest(passages.vectors[:size], query) for query in queries]
    return Task(passages, documents, queries, words, truth)


def nearest(vectors: Vectors, query: Vectors) -> set[int]:
    return set(np.argpartition(-(vectors @ query), LIMIT)[:LIMIT].tolist())


def filled(given: Task, folder: Path) -> EmbeddedIndex:
    """The index as it is after a restart."""
    index = EmbeddedIndex(folder, DIMENSIONS)
    allowed = frozenset({"everyone"})
    started = time.perf_counter()
    for start in range(0, given.size, 1000):
        span = range(start, min(start + 1000, given.size))
        entries = [
            Entry(n, given.documents[n], given.passages.texts[n], given.passages.vectors[n], allowed)
            for n in span
        ]
        index.apply(span.stop, entries, [])
    print(f"{given.size} entries in {time.perf_counter() - started:.1f} s", flush=True)
    index.flush()
    index.close()
    return EmbeddedIndex(folder, DIMENSIONS)


def recall(search: Search, given: Task) -> float:
    pairs = zip(given.queries, given.truth, strict=True)
    return sum(len(truth & set(search(query))) for query, truth in pairs) / (LIMIT * NUM_QUERIES)


def milliseconds(calls: Sequence[Callable[[], object]]) -> NDArray[np.float64]:
    """Of each call."""
    times = []
    for call in calls:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return np.array(times) * 1000


def p50(search: Search, given: Task) -> float:
    return float(np.median(milliseconds([lambda q=q: search(q) for q in given.queries])))  # type: ignore[misc]


def by_cairn(index: EmbeddedIndex) -> Search:
    where = Filter(READER)
    return lambda query: [match.chunk_id for match in index.search(query, LIMIT, where)]


def hybrid(index: EmbeddedIndex, vectors: Vectors, query: Vectors, words: str) -> object:
    """All of a question but its embedding and what the database gives: both searches, feedback, fusion."""
    where, config = Filter(READER), CollectionConfig()
    dense = index.search(query, config.candidates, where)
    lexical = index.search_text(words, config.candidates, where)
    best = list(calibrated([lexical, dense]))[:2]
    moved = unit_length(query + config.feedback * vectors[best].mean(axis=0))
    return calibrated([lexical, index.search(moved, config.candidates, where)])


def filtered(index: EmbeddedIndex, given: Task) -> tuple[float, float]:
    """Median time and recall where each query has its own hundredth of the documents."""
    names, chosen = sorted(set(given.documents)), random.Random(5)
    few = [Filter(READER, frozenset(chosen.sample(names, max(1, len(names) // 100)))) for _ in given.queries]
    times = milliseconds(
        [lambda q=q, w=w: index.search(q, LIMIT, w) for q, w in zip(given.queries, few, strict=True)]  # type: ignore[misc]
    )
    hits = wanted = 0
    for query, where in zip(given.queries, few, strict=True):
        right = {match.chunk_id for match in index.exact(query, LIMIT, where)}
        hits += len(right & {match.chunk_id for match in index.search(query, LIMIT, where)})
        wanted += len(right)
    return float(np.median(times)), hits / wanted


def chroma(given: Task, folder: Path) -> Iterator[tuple[str, Search]]:
    import chromadb

    client = chromadb.PersistentClient(str(folder), settings=chromadb.Settings(anonymized_telemetry=False))
    space = {"space": "cosine", "max_neighbors": 16, "ef_construction": 128}
    collection = client.create_collection("books", configuration={"hnsw": space}, embedding_function=None)
    ids = [str(n) for n in range(given.size)]
    for start in range(0, given.size, 1000):
        span = slice(start, start + 1000)
        collection.add(ids=ids[span], embeddings=given.vectors[span])

    def search(query: Vectors) -> list[int]:
        return [int(each) for each in collection.query(query_embeddings=[query], n_results=LIMIT)["ids"][0]]

    for breadth in (100, *BREADTHS[3:]):
        collection.modify(configuration={"hnsw": {"ef_search": breadth}})
        yield f"ef {breadth}", search


def lance(given: Task, folder: Path) -> Iterator[tuple[str, Search]]:
    import lancedb

    rows = [{"id": n, "vector": vector} for n, vector in enumerate(given.vectors)]
    table = lancedb.connect(folder).create_table("books", data=rows)
    table.create_index(
        metric="cosine", vector_column_name="vector", index_type="IVF_HNSW_SQ", num_partitions=1, m=16
    )

    def search(query: Vectors, breadth: int) -> list[int]:
        found = table.search(query).distance_type("cosine").ef(breadth).refine_factor(4)
        return [row["id"] for row in found.limit(LIMIT).select(["id", "_distance"]).to_list()]

    for breadth in BREADTHS:
        yield f"ef {breadth}", partial(search, breadth=breadth)


def qdrant(given: Task, folder: Path) -> Iterator[tuple[str, Search]]:
    from qdrant_client import QdrantClient, models

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it advises against so many points
        client = QdrantClient(":memory:")
        cosine = models.VectorParams(size=DIMENSIONS, distance=models.Distance.COSINE)
        client.create_collection("books", vectors_config=cosine)
        for start in range(0, given.size, 5000):
            ids = list(range(start, min(start + 5000, given.size)))
            client.upsert(
                "books", models.Batch(ids=ids, vectors=given.vectors[start : start + 5000].tolist())
            )

    def search(query: Vectors) -> list[int]:
        return [int(p.id) for p in client.query_points("books", query=query.tolist(), limit=LIMIT).points]

    yield "all compared", search


PEERS: dict[str, tuple[str, Callable[[Task, Path], Iterator[tuple[str, Search]]]]] = {
    "chroma": ("chromadb", chroma),
    "lancedb": ("lancedb", lance),
    "qdrant": ("qdrant_client", qdrant),
}


def widened(index: EmbeddedIndex, given: Task, least: float) -> tuple[int, float]:
    """Cairn's breadth from its own on, and its recall, that is at least this."""
    share = 0.0
    for breadth in BREADTHS[BREADTHS.index(128) :]:
        neighbours.SEARCH_BREADTH = breadth
        share = recall(by_cairn(index), given)
        if share >= least:
            break
    return neighbours.SEARCH_BREADTH, share


def against(
    name: str, index: EmbeddedIndex, given: Task, args: argparse.Namespace, save: Callable[..., None]
) -> None:
    own_breadth, own = neighbours.SEARCH_BREADTH, recall(by_cairn(index), given)
    with tempfile.TemporaryDirectory() as folder:
        how, theirs, share = "", None, 0.0
        for how, theirs in PEERS[name][1](given, Path(folder)):  # noqa: B007 - the last one stays
            share = recall(theirs, given)
            if share >= own:
                break
        assert theirs is not None
        breadth, ours = widened(index, given, min(share, _BEST))
        medians = in_turn(args.rounds, lambda: p50(by_cairn(index), given), lambda: p50(theirs, given))
    neighbours.SEARCH_BREADTH = own_breadth
    print(
        f"{name} ({how}): {medians[1]:.2f} ms at {share:.4f}; Cairn (breadth {breadth}): {medians[0]:.2f} ms"
        f" at {ours:.4f}; {medians[1] / medians[0]:.1f}x",
        flush=True,
    )
    save(
        f"vs_{name}",
        what=f"ten nearest of {given.size:,} passages, median; recall {ours:.3f} against {share:.3f}",
        cairn=medians[0],
        peer=f"{name} ({how})",
        peer_value=medians[1],
        bar=1.0,
        packages=("numpy", PEERS[name][0].replace("_", "-")),
    )


def own_numbers(index: EmbeddedIndex, given: Task, save: Callable[..., None]) -> None:
    share = recall(by_cairn(index), given)
    median = float(np.median([p50(by_cairn(index), given) for _ in range(5)]))
    few_median, few_recall = filtered(index, given)
    questions = list(zip(given.queries, given.words, strict=True)) * 3
    vectors = given.vectors
    times = milliseconds([lambda q=q, w=w: hybrid(index, vectors, q, w) for q, w in questions])  # type: ignore[misc]
    middle, last = (float(np.percentile(times, each)) for each in (50, 99))
    print(f"recall@10 {share:.4f}, p50 {median:.3f} ms; a hundredth {few_median:.3f} ms at {few_recall:.4f}")
    print(f"hybrid p50 {middle:.2f} ms, p99 {last:.2f} ms", flush=True)
    of = f"of {given.size:,} passages"
    save(
        "recall10",
        what=f"share of the ten nearest {of} that a search finds",
        cairn=share,
        unit="share",
        bar=0.97,
    )
    save("p50", what=f"ten nearest {of}, median", cairn=median, bar=0.5)
    save(
        "filtered",
        what=f"ten nearest in a hundredth of the documents {of}, median; recall {few_recall:.3f}",
        cairn=few_median,
        bar=3.0,
    )
    save(
        "hybrid_p50",
        what=f"vectors, words, feedback and fusion {of}, 100 each, median",
        cairn=middle,
        bar=5.0,
    )
    save(
        "hybrid_p99",
        what=f"vectors, words, feedback and fusion {of}, 100 each, 99th percentile",
        cairn=last,
        bar=20.0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="where benchmarks.retrieval.books put vectors"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=list(PEERS))
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    args = parser.parse_args()
    given = task(args.count, args.folder)
    assert args.no_record or given.size == 100_000, f"only {given.size} passages have vectors"

    def save(name: str, **facts: Any) -> None:
        if not args.no_record:
            facts = {"unit": "ms", "packages": ("numpy",), **facts}
            record(
                "retrieval",
                f"index.hnsw100k.{name}",
                command=COMMAND,
                higher_is_better=facts["unit"] != "ms",
                **facts,
            )

    with tempfile.TemporaryDirectory() as folder:
        index = filled(given, Path(folder))
        own_numbers(index, given, save)
        for name in args.peers:
            if find_spec(PEERS[name][0]) is None:
                print(f"{name} is left out: pip install 'cairn[stores]'")
            else:
                against(name, index, given, args, save)
        index.close()


if __name__ == "__main__":
    main()
