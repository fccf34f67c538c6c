"""The search of a vector store, and what filters of a search mean."""

import asyncio
import math
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

from cairn.core.chat import Principal
from cairn.core.retrieval import Hit
from cairn.providers.answering import retrieve
from cairn.registry import Database
from cairn.retrieval.catalogue import find_visible
from cairn.retrieval.search import Depth, SearchOptions
from cairn.server.files.attaching import file_ids, fitting
from cairn.server.files.objects import SearchBody, SearchPage, SearchResult, TextContent
from cairn.server.files.stores import note_use
from cairn.server.filters import ComparisonFilter, CompoundFilter, RankingOptions
from cairn.server.state import ServerState


async def search_store(
    state: ServerState, caller: Principal, store_id: str, body: SearchBody
) -> dict[str, Any]:
    """The answer of `POST /v1/vector_stores/{id}/search`."""
    database = state.registry.database
    info = await asyncio.to_thread(find_visible, database, store_id, caller)
    await asyncio.to_thread(note_use, state.registry, info)
    options = await asyncio.to_thread(
        options_of, database, [info.collection_id], body.max_num_results, body.filters, body.ranking_options
    )
    queries = [body.query] if isinstance(body.query, str) else body.query
    collection = await asyncio.to_thread(state.library.collection, info.collection_id)
    found = await asyncio.gather(*(retrieve([collection], each, caller, options) for each in queries))
    hits = above(_in_turn(found), body.ranking_options)[: body.max_num_results]
    return (await asyncio.to_thread(_page, database, queries, hits)).model_dump()


def options_of(
    database: Database,
    collection_ids: Iterable[str],
    limit: int,
    filters: ComparisonFilter | CompoundFilter | None,
    ranking: RankingOptions,
) -> SearchOptions:
    """What a request says of a search."""
    documents = None
    if filters is not None:
        with database.session(read_only=True) as session:
            documents = fitting(session, collection_ids, filters)
    depth: Depth = "fused" if ranking.ranker == "none" else "reranked"
    return SearchOptions(limit=limit, documents=documents, depth=depth)


def above(hits: Iterable[Hit], ranking: RankingOptions) -> list[Hit]:
    """Hits that reach the threshold."""
    return [hit for hit in hits if score_of(hit) >= ranking.score_threshold]


def score_of(hit: Hit) -> float:
    """How well a passage answers, from 0 to 1: the reranker's word, else how near it is in meaning.

    The order also counts the words that were found.
    """
    if "reranked" in hit.stages:
        return 0.5 + 0.5 * math.tanh(hit.stages["reranked"] / 2)
    return min(max(hit.stages.get("dense", 0.0), 0.0), 1.0)


def _in_turn(found: Iterable[list[Hit]]) -> list[Hit]:
    """The best of each query, the second best of each, and so on, each passage once."""
    hits = (hit for rank in zip_longest(*found) for hit in rank if hit is not None)
    return list({hit.passage.chunk_id: hit for hit in hits}.values())


def _page(database: Database, queries: list[str], hits: list[Hit]) -> SearchPage:
    with database.session(read_only=True) as session:
        files = file_ids(session, (hit.passage.document_id for hit in hits))
    results = []
    for hit in hits:
        file_id, attributes = files.get(hit.passage.document_id, (hit.passage.document_id, {}))
        results.append(
            SearchResult(
                file_id=file_id,
                filename=hit.passage.name,
                score=score_of(hit),
                attributes=attributes,
                content=[TextContent(text=hit.passage.text)],
            )
        )
    return SearchPage(search_query=queries, data=results)
