"""Quality of search on judged collections, through the product's own collection, index and search.

Each document is put as a Markdown file, cut, embedded and indexed with every setting at its default; a
document ranks where its best passage does. Nothing is chosen on these queries. Reranking is measured where
there is a reranker.

    python -m benchmarks.retrieval.quality [--only cranfield] [--no-record]
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.record import record

from cairn.core import Settings
from cairn.core.chat import Principal
from cairn.data.judged import Judged
from cairn.data.judged_sets import JUDGED_SETS
from cairn.data.parsing import parse_bytes
from cairn.evaluation.retrieval import mean_over_queries, ndcg, recall
from cairn.providers.encoder_loading import load_encoder
from cairn.providers.encoders import LocalEmbedder
from cairn.providers.heads import LocalReranker, load_head
from cairn.providers.knowledge import collection_encoders
from cairn.providers.packaged_encoder import DEFAULT_EMBEDDER, adopt_packaged_encoder
from cairn.providers.starter import adopt_heads
from cairn.registry import Registry
from cairn.retrieval.catalogue import create_collection
from cairn.retrieval.collection import Collection
from cairn.retrieval.encoders import Encoders
from cairn.retrieval.incoming import NewDocument
from cairn.retrieval.index_folder import IndexFolder
from cairn.retrieval.search import Depth, SearchOptions, find

READER = Principal("bench")
BARS = {("cranfield", "fused"): 0.44, ("cranfield", "reranked"): 0.46}
XQUAD_BAR = 0.93
_STAGES: tuple[tuple[str, Depth], ...] = (
    ("bm25", "lexical"),
    ("dense", "dense"),
    ("fused", "fused"),
    ("reranked", "reranked"),
)
_DEPTH, _BATCH = 100, 64


@contextmanager
def filled(name: str, judged: Judged, models: Encoders, registry: Registry) -> Iterator[Collection]:
    """A collection of these documents."""
    create_collection(registry, name, owner=READER.user_id)
    indexes = IndexFolder(registry.settings.home / "indexes")
    with Collection.open(registry, name, models, indexes) as collection:
        batch: list[NewDocument] = []
        for source, text in judged.documents.items():
            data = text.encode()
            batch.append(NewDocument(source=source, original=data, parsed=parse_bytes(data, f"{source}.md")))
            if len(batch) == _BATCH:
                collection.put_all(batch)
                batch = []
        collection.put_all(batch)
        yield collection


def rankings(
    collection: Collection, queries: Mapping[str, str], depth: Depth, limit: int
) -> dict[str, list[str]]:
    """Documents in the order of their best passages."""
    options = SearchOptions(limit=limit, depth=depth)
    return {
        number: list(dict.fromkeys(hit.passage.name for hit in find(collection, query, READER, options)))
        for number, query in queries.items()
    }


def measure(name: str, models: Encoders, registry: Registry, note: Callable[[str, str, float], None]) -> None:
    judged = JUDGED_SETS[name]()
    started = time.perf_counter()
    with filled(name, judged, models, registry) as collection:
        stats = collection.stats()
        seconds = time.perf_counter() - started
        print(f"{name}: {stats.num_documents} documents, {stats.num_chunks} chunks in {seconds:.0f} s")
        for stage, depth in _STAGES:
            if depth == "reranked" and models.reranker is None:
                continue
            limit = collection.info.config.reranked if depth == "reranked" else _DEPTH
            found = rankings(collection, judged.queries, depth, limit)
            at_10 = mean_over_queries(ndcg, judged.relevant, found, 10)
            at_100 = mean_over_queries(recall, judged.relevant, found, 100)
            at_1 = mean_over_queries(recall, judged.relevant, found, 1)
            print(
                f"  {stage:9} nDCG@10 {at_10:.4f}  recall@1 {at_1:.4f}  recall@100 {at_100:.4f}", flush=True
            )
            note(name, stage, at_1 if name == "xquad" else at_10)


def note(name: str, stage: str, value: float) -> None:
    """Record one number; of XQuAD only the last stage there is."""
    is_xquad = name == "xquad"
    record(
        "retrieval",
        "retrieval.xquad.recall1" if is_xquad else f"retrieval.{name}.ndcg10.{stage}",
        what=(
            f"XQuAD-en, questions of the held-out articles against all 240 passages, {stage}"
            if is_xquad
            else f"{name.upper() if name != 'cranfield' else 'Cranfield'}, nDCG@10, {stage}"
        ),
        unit="recall@1" if is_xquad else "nDCG@10",
        depends_on_machine=False,
        cairn=value,
        bar=XQUAD_BAR if is_xquad else BARS.get((name, stage)),
        command="python -m benchmarks.retrieval.quality",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=JUDGED_SETS, action="append")
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, Registry.open(Settings(home=Path(home))) as registry:
        adopt_packaged_encoder(registry)
        embedder = load_encoder(registry, DEFAULT_EMBEDDER)
        assert isinstance(embedder, LocalEmbedder)
        try:
            with _reranker(registry) as reranker:
                models = collection_encoders(embedder, reranker)
                for name in args.only or JUDGED_SETS:
                    measure(name, models, registry, _ignore if args.no_record else note)
        finally:
            embedder.close()


@contextmanager
def _reranker(registry: Registry) -> Iterator[LocalReranker | None]:
    """The reranker that ships, where there is one."""
    if not any(artifact.metadata.get("task") == "reranking" for artifact in adopt_heads(registry)):
        yield None
        return
    reranker = load_head(registry, "reranker", LocalReranker)
    try:
        yield reranker
    finally:
        reranker.close()


def _ignore(name: str, stage: str, value: float) -> None: ...


if __name__ == "__main__":
    main()
