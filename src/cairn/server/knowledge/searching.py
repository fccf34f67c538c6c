"""Search of a collection, with what every stage thought of each passage."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StringConstraints
from starlette.responses import Response

from cairn.core.chat import Principal
from cairn.core.retrieval import Hit
from cairn.retrieval.catalogue import find_visible
from cairn.retrieval.highlights import highlights
from cairn.retrieval.search import CollectionRetriever, SearchOptions
from cairn.server.auth import MayReadKnowledge
from cairn.server.body import RequestBody
from cairn.server.state import ServerState, state_of
from cairn.server.streaming import answer

router = APIRouter()


class SearchOrder(RequestBody):
    """What to look for."""

    query: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
    limit: Annotated[int, Field(ge=1, le=50)] = 10
    documents: Annotated[list[str], Field(max_length=1000)] | None = None
    """Only in these."""


class SearchHit(BaseModel):
    """A passage that was found; more score is better."""

    chunk_id: int
    document_id: str
    source: str
    page: int
    heading: list[str]
    text: str
    start: int
    end: int
    score: float
    stages: dict[str, float]
    """By stage that saw it, each on a scale of its own: `lexical`, `dense`, `fused`, `reranked`."""
    highlights: list[tuple[int, int]]
    """Words of the query; UTF-8 bytes of the passage's text."""


class SearchResult(BaseModel):
    """Passages, best first."""

    hits: list[SearchHit]


@router.post("/collections/{ref}/search", name="search_collection", response_model=SearchResult)
async def search(request: Request, caller: MayReadKnowledge, ref: str, body: SearchOrder) -> Response:
    """The passages that fit a query best, of what the caller may see."""
    state = state_of(request)
    return await answer(_search(state, ref, caller, body), request, config=state.config, headers={})


async def _search(state: ServerState, ref: str, caller: Principal, body: SearchOrder) -> dict[str, Any]:
    info = await asyncio.to_thread(find_visible, state.registry.database, ref, caller)
    collection = await asyncio.to_thread(state.library.collection, info.collection_id)
    only = None if body.documents is None else frozenset(body.documents)
    options = SearchOptions(limit=body.limit, documents=only)
    hits = await CollectionRetriever(collection).find(body.query, caller, options)
    return SearchResult(hits=[_hit(hit, body.query) for hit in hits]).model_dump(mode="json")


def _hit(hit: Hit, query: str) -> SearchHit:
    passage = hit.passage
    return SearchHit(
        chunk_id=passage.chunk_id,
        document_id=passage.document_id,
        source=passage.name,
        page=passage.page,
        heading=list(passage.heading_path),
        text=passage.text,
        start=passage.span[0],
        end=passage.span[1],
        score=hit.score,
        stages=dict(hit.stages),
        highlights=highlights(query, passage.text),
    )
