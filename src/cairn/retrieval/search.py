"""Search: by words and by meaning, fused, reranked and made diverse, of what the reader may see.

The reader's labels are part of both searches, and are checked again when the passages are read. Each hit says
what each stage thought of it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from cairn.core.chat import Principal
from cairn.core.errors import InvalidRequestError
from cairn.core.retrieval import Hit, Passage
from cairn.retrieval.access import labels_of
from cairn.retrieval.collection import Collection
from cairn.retrieval.diversity import diversified
from cairn.retrieval.encoders import unit_length
from cairn.retrieval.fusion import blended, calibrated, reciprocal
from cairn.retrieval.graph.walking import walk
from cairn.retrieval.index import Filter, Index, Match
from cairn.retrieval.passages import load_passages, load_vectors
from cairn.retrieval.query_words import telling_words
from cairn.retrieval.spaces import OpenSpace
from cairn.telemetry import Span, current
from cairn.telemetry.redaction import Content

Vector = NDArray[np.float32]
Depth = Literal["lexical", "dense", "fused", "reranked"]
_CHOICE = 4
"""Passages to choose each diverse one from."""
_FEEDBACK_PASSAGES = 2
_WEIGHTS = {"graph": 4.0}  # a walk begins at what the others found, so its order has theirs in it
_FUSIONS = {"reciprocal": reciprocal, "calibrated": calibrated}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """What to find and how far to go for it."""

    limit: int = 10
    depth: Depth = "reranked"
    """The last stage; `reranked` is `fused` where there is no reranker."""
    documents: frozenset[str] | None = None
    """Only chunks of these."""
    graph: bool | None = None
    """Whether to walk over the graph as well; None: as the collection says."""

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise InvalidRequestError(f"limit is {self.limit}, allowed: 1 or more", param="limit")


class CollectionRetriever:
    """The `Retriever` of one collection."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    async def retrieve(self, query: str, principal: Principal, *, limit: int = 10) -> list[Hit]:
        """The best passages for a query, best first; never one the principal may not see."""
        return await self.find(query, principal, SearchOptions(limit=limit))

    async def find(self, query: str, principal: Principal, options: SearchOptions) -> list[Hit]:
        """The same, with options; embedded together with what others ask at the time."""
        if not query.strip():
            return []
        with self.collection.using() as space, retrieval_span(self.collection, query, options) as span:
            with current().child("embed query"):
                embeddings = await space.encoders.embedder.embed_async([query], truncate=True)
            vector, labels = embeddings.vectors[0], labels_of(principal)
            found = await asyncio.to_thread(search, self.collection, space, query, vector, labels, options)
            span.set("cairn.retrieval.hits", len(found))
            where = Filter(labels, options.documents)
            config = self.collection.info.config
            self.collection.monitor.saw(space, query, unit_length(vector), where, config)
            return found


def retrieval_span(collection: Collection, query: str, options: SearchOptions) -> Span:
    """The span of a search; it is work worth a trace of its own."""
    name = collection.info.name
    span = current().child(f"retrieval {name}")
    if span:
        span.trace.is_work = True
        span.attributes |= {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.provider.name": "cairn",
            "gen_ai.data_source.id": collection.info.collection_id,
            "gen_ai.retrieval.top_k": options.limit,
        }
        if span.records_content:
            span.record("gen_ai.retrieval.query.text", Content([{"role": "user", "content": query}]))
    return span


def find(collection: Collection, query: str, principal: Principal, options: SearchOptions) -> list[Hit]:
    """As `CollectionRetriever.find`, for callers without an event loop."""
    if not query.strip():
        return []
    with collection.using() as space:
        vector = space.encoders.embedder.embed([query], truncate=True).vectors[0]
        return search(collection, space, query, vector, labels_of(principal), options)


def search(
    collection: Collection,
    space: OpenSpace,
    query: str,
    vector: Vector,
    labels: frozenset[str] | None,
    options: SearchOptions,
) -> list[Hit]:
    """The best passages for a query and its vector in a space, of what `labels` open; None is maintenance."""
    config = collection.info.config.model_copy(update=dict(space.settings))
    where = Filter(labels, options.documents)
    count = max(config.candidates, options.limit)
    vector = unit_length(vector)
    stages = _searched(space.index(), query, vector, where, count, options)
    if config.feedback and options.depth in ("fused", "reranked"):
        with current().child("search vectors with feedback"):
            best = _best_vectors(collection, space, list(_fused(config.fusion, stages)), labels)
            if best:
                moved = unit_length(vector + config.feedback * np.mean(best, axis=0))
                stages["feedback"] = space.index().search(moved, count, where)
    by_graph = bool(config.graph) if options.graph is None else options.graph
    if by_graph and options.depth in ("fused", "reranked"):
        seeds = _fused(config.fusion, stages)
        with current().child("walk graph"):
            stages["graph"] = walk(collection.graph, query, seeds, count, where)
    if options.depth in ("lexical", "dense"):
        scores = {match.chunk_id: match.score for match in stages[options.depth]}
    else:
        scores = _fused(config.fusion, stages)
    seen = {name: {match.chunk_id: match.score for match in matches} for name, matches in stages.items()}
    reranker = space.encoders.reranker if options.depth == "reranked" else None
    wanted = max(options.limit, config.reranked if reranker is not None else 0)
    with current().child("load passages"), collection.database.session(read_only=True) as session:
        if config.diversity and reranker is None:
            wanted *= _CHOICE
        found = _visible(session, collection, list(scores), labels, wanted)
        order = list(found)
        vectors = load_vectors(session, space.space_id, order) if config.diversity else {}
    if options.depth in ("fused", "reranked"):
        seen["fused"] = {each: scores[each] for each in order}
    if reranker is not None and order:
        texts = [_read_as(found[each]) for each in order]
        with current().child("rerank", {"cairn.passages": len(texts)}):
            seen["reranked"] = dict(zip(order, reranker.score(query, texts), strict=True))
        scores = blended(seen["fused"], seen["reranked"])
        order.sort(key=lambda each: (-scores[each], each))
    if config.diversity and len(vectors) == len(order):  # a space that was dropped just now has none
        order = diversified({each: scores[each] for each in order}, vectors, config.diversity, options.limit)
    return [Hit(found[each], scores[each], _stages(seen, each)) for each in order[: options.limit]]


def _searched(
    index: Index, query: str, vector: Vector, where: Filter, count: int, options: SearchOptions
) -> dict[str, Sequence[Match]]:
    found: dict[str, Sequence[Match]] = {}
    if options.depth != "dense":
        with current().child("search words"):
            found["lexical"] = index.search_text(" ".join(telling_words(query)), count, where)
    if options.depth != "lexical":
        with current().child("search vectors"):
            found["dense"] = index.search(vector, count, where)
    return found


def _best_vectors(
    collection: Collection, space: OpenSpace, order: Sequence[int], labels: frozenset[str] | None
) -> list[Vector]:
    """Of the best passages; checked as those that are shown, for they decide what is found."""
    with collection.database.session(read_only=True) as session:
        best = _visible(session, collection, order, labels, _FEEDBACK_PASSAGES)
        return list(load_vectors(session, space.space_id, list(best)).values())


def _fused(fusion: str, stages: Mapping[str, Sequence[Match]]) -> dict[int, float]:
    """One score for each; the vectors that are nearest after feedback take the place of those before it."""
    if "feedback" in stages:
        stages = {name: matches for name, matches in stages.items() if name != "dense"}
    return _FUSIONS[fusion](list(stages.values()), [_WEIGHTS.get(name, 1.0) for name in stages])


def _visible(
    session: Session, collection: Collection, order: Sequence[int], labels: frozenset[str] | None, wanted: int
) -> dict[int, Passage]:
    """The first passages of an order that may be seen; no more are read than are needed."""
    found: dict[int, Passage] = {}
    for start in range(0, len(order), wanted):
        part = order[start : start + wanted]
        seen = load_passages(session, collection.info.collection_id, part, labels)
        found.update({each: seen[each] for each in part if each in seen})
        if len(found) >= wanted:
            break
    return dict(islice(found.items(), wanted))


def _read_as(passage: Passage) -> str:
    """A passage as a reranker reads it: under its headings."""
    headings = [heading for heading in passage.heading_path if heading not in passage.text]
    return "\n".join([*headings, passage.text])


def _stages(seen: Mapping[str, Mapping[int, float]], chunk_id: int) -> dict[str, float]:
    return {name: scores[chunk_id] for name, scores in seen.items() if chunk_id in scores}
