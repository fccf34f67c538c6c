"""Whether a walk over the graph finds both passages of questions that need two, and harms others.

Collections, index, reranker and search are the product's own, with every setting at its default. What the
walk counts with was chosen on `--part tuning`; numbers come from the other part. Both passages must be among
the first five; a question of one passage counts where that is the first. Each is asked with and without it.

    python -m benchmarks.retrieval.graph [--only books] [--part tuning] [--depth fused] [--no-record]
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from benchmarks.record import record
from benchmarks.retrieval.multihop import SETS, Part
from benchmarks.retrieval.quality import READER, filled

from cairn.core import Settings
from cairn.data.judged import Judged
from cairn.providers.encoder_loading import load_encoder
from cairn.providers.encoders import LocalEmbedder
from cairn.providers.heads import LocalReranker, load_head
from cairn.providers.knowledge import collection_encoders, has_head
from cairn.providers.packaged_encoder import DEFAULT_EMBEDDER, adopt_packaged_encoder
from cairn.registry import Registry
from cairn.retrieval.collection import Collection
from cairn.retrieval.encoders import Encoders
from cairn.retrieval.search import Depth, SearchOptions, find

_DEPTHS: tuple[Depth, ...] = ("fused", "reranked")
_FIRST = 5
Questions = Mapping[str, tuple[str, frozenset[str]]]


def found_all(
    collection: Collection, questions: Questions, depth: Depth, *, graph: bool, first: int
) -> float:
    """The share of questions whose passages are all among the first."""
    options = SearchOptions(limit=first, depth=depth, graph=graph)
    found = [
        wanted <= {hit.passage.name for hit in find(collection, question, READER, options)}
        for question, wanted in questions.values()
    ]
    return sum(found) / len(found)


def measure(
    name: str, part: Part, models: Encoders, registry: Registry, depths: tuple[Depth, ...], *, is_kept: bool
) -> None:
    made = SETS[name](part)
    with filled(f"{name} {part}", Judged(made.documents, {}, {}), models, registry) as collection:
        started = time.perf_counter()
        collection.graph.update()
        view = collection.graph.view(None)
        print(
            f"{name}, {part}: {len(view.chunk_ids)} chunks, {len(view.keys)} entities, "
            f"{len(view.related[0])} relations in {time.perf_counter() - started:.1f} s",
            flush=True,
        )
        for kind, questions, first in (("double", made.double, _FIRST), ("single", made.single, 1)):
            for depth in depths if questions else ():
                without, with_graph = (
                    found_all(collection, questions, depth, graph=graph, first=first)
                    for graph in (False, True)
                )
                print(
                    f"  {kind:6} {depth:8} of {len(questions)}: {without:.3f} without, {with_graph:.3f} with",
                    flush=True,
                )
                if is_kept and part == "test":
                    _record(name, kind, depth, len(questions), without, with_graph)


def _record(name: str, kind: str, depth: str, count: int, without: float, with_graph: float) -> None:
    what = f"both passages in the first {_FIRST}" if kind == "double" else "the passage first"
    record(
        "retrieval",
        f"retrieval.graph.{name}.{kind}.{depth}",
        what=f"{count} questions of {'two passages' if kind == 'double' else 'one passage'}, {name}: {what}",
        unit="recall",
        cairn=with_graph,
        peer="the same search without the graph",
        peer_value=without,
        command="python -m benchmarks.retrieval.graph",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=SETS, action="append")
    parser.add_argument("--part", choices=get_args(Part), default="test")
    parser.add_argument("--depth", choices=_DEPTHS, action="append")
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    args = parser.parse_args()
    depths = tuple(args.depth or _DEPTHS)
    with tempfile.TemporaryDirectory() as home, Registry.open(Settings(home=Path(home))) as registry:
        adopt_packaged_encoder(registry)
        embedder = load_encoder(registry, DEFAULT_EMBEDDER)
        assert isinstance(embedder, LocalEmbedder)
        is_reranked = "reranked" in depths and has_head(registry, "reranker")
        reranker = load_head(registry, "reranker", LocalReranker) if is_reranked else None
        models = collection_encoders(embedder, reranker)
        try:
            for name in args.only or SETS:
                measure(name, args.part, models, registry, depths, is_kept=not args.no_record)
        finally:
            embedder.close()
            if reranker is not None:
                reranker.close()


if __name__ == "__main__":
    main()
