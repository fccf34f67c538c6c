"""The next space of a collection held against the active one, on queries that were really asked.

Both are searched as they would answer, by everybody's rights: only numbers come out.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

from cairn.core import Progress, Silent
from cairn.evaluation.retrieval import mean_over_queries, ndcg, overlap, rank_correlation
from cairn.retrieval.collection import Collection
from cairn.retrieval.search import Depth, SearchOptions, search
from cairn.retrieval.spaces import OpenSpace, SpaceInfo

_K = 10
_DEPTHS: Mapping[str, Depth] = {"dense": "dense", "fused": "fused"}


def shadow_scores(
    collection: Collection,
    space: SpaceInfo,
    queries: Mapping[str, str],
    relevant: Mapping[str, Mapping[str, int]],
    progress: Progress | None = None,
) -> dict[str, dict[str, float]]:
    """By stage: overlap of the first ten passages, their rank correlation, and nDCG of both if judged."""
    found: dict[str, dict[str, float]] = {}
    opened = collection.spaces.open(space.space_id, collection.spaces.encoders_of(space), space.settings)
    with (
        collection.using() as active,
        opened.released_after() as other,
        (progress or Silent()).task("comparing", len(queries) * len(_DEPTHS)) as task,
    ):
        for stage, depth in _DEPTHS.items():
            overlaps, correlations = list[float](), list[float]()
            rankings: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
            for number, query in queries.items():
                passages = []
                for place, each in enumerate((active, other)):
                    hits = _found(collection, each, query, depth)
                    passages.append([chunk for chunk, _, _ in hits])
                    named = relevant.get(number, {})
                    names = [document if document in named else name for _, name, document in hits]
                    rankings[place][number] = list(dict.fromkeys(names))
                overlaps.append(overlap(passages[0], passages[1], _K))
                correlation = rank_correlation(passages[0], passages[1], _K)
                correlations += [] if correlation is None else [correlation]
                task.advance()
            found[stage] = {f"overlap@{_K}": fmean(overlaps) if overlaps else 0.0}
            if correlations:
                found[stage]["rank correlation"] = fmean(correlations)
            judged = {number: each for number, each in relevant.items() if number in queries}
            if judged:
                before, after = (mean_over_queries(ndcg, judged, each, _K) for each in rankings)
                found[stage] |= {f"ndcg@{_K} active": before, f"ndcg@{_K} next": after}
    return found


def _found(
    collection: Collection, space: OpenSpace, query: str, depth: Depth
) -> Sequence[tuple[str, str, str]]:
    """Chunk, document's name and id of each hit."""
    vector = space.encoders.embedder.embed([query], truncate=True).vectors[0]
    hits = search(collection, space, query, vector, None, SearchOptions(limit=_K, depth=depth))
    passages = [hit.passage for hit in hits]
    return [(str(each.chunk_id), each.name, each.document_id) for each in passages]
