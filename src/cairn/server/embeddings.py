"""`/v1/embeddings`: vectors of texts, given as text or as the model's own token ids; `/v1/classify`: labels.

A text that is too long is refused, not cut. Texts of all requests are computed together; what is said of a
text is the same bits whatever comes with it.
"""

import base64
import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from cairn.core.chat import Principal
from cairn.core.embedding import Embeddings, TextInput
from cairn.core.errors import InvalidRequestError
from cairn.engine.runner import FloatArray
from cairn.providers.encoders import LocalClassifier, LocalEmbedder, shortened
from cairn.server.auth import Caller
from cairn.server.identity.permissions import require_model
from cairn.server.openai_types import (
    ClassificationList,
    ClassifyRequest,
    EmbeddingList,
    EmbeddingsRequest,
    refuse,
)
from cairn.server.requests import new_completion_id
from cairn.server.routing.embedding import RoutedEmbedder
from cairn.server.routing.provider import TARGET_HEADER
from cairn.server.state import ServerState, state_of
from cairn.server.streaming import answer

router = APIRouter(prefix="/v1", tags=["openai"])

_MOST_TEXTS = 2048  # OpenAI's


@router.post("/embeddings", response_model=EmbeddingList)
async def embeddings(request: Request, caller: Caller, body: EmbeddingsRequest) -> Response:
    """Vectors of texts."""
    require_model(caller, body.model)
    state = state_of(request)
    headers: dict[str, str] = {}
    return await answer(_embed(state, caller, body, headers), request, config=state.config, headers=headers)


async def _embed(
    state: ServerState, caller: Principal, body: EmbeddingsRequest, headers: dict[str, str]
) -> dict[str, Any]:
    texts = texts_of(body)
    if (route := state.routes.route(body.model)) is not None:
        routed = RoutedEmbedder(state.routes, body.model, route, state.models)
        found, headers[TARGET_HEADER] = await routed.embed(texts, body.dimensions, caller.user_id)
        return _answer(state, body, found, body.model)
    async with state.models.use_encoder(body.model) as encoder:
        if not isinstance(encoder, LocalEmbedder):
            raise InvalidRequestError(
                f"{body.model!r} is a model for classification", remedy="choose an embedder", param="model"
            )
        if body.dimensions is not None and body.dimensions > encoder.dimensions:
            raise refuse("dimensions", body.dimensions, f"1 to {encoder.dimensions}, as this model has")
        found = await encoder.embed_async(texts)
    vectors = found.vectors
    if body.dimensions is not None and body.dimensions < encoder.dimensions:
        vectors = shortened(vectors, body.dimensions)
    return _answer(state, body, Embeddings(vectors, found.num_tokens), encoder.name)


def _answer(state: ServerState, body: EmbeddingsRequest, found: Embeddings, name: str) -> dict[str, Any]:
    state.metrics.prompt_tokens.labels(name).inc(found.num_tokens)
    return {
        "object": "list",
        "model": body.model,
        "data": _data(found.vectors, is_packed=body.encoding_format == "base64"),
        "usage": {"prompt_tokens": found.num_tokens, "total_tokens": found.num_tokens},
    }


def texts_of(body: EmbeddingsRequest) -> list[TextInput]:
    """The texts of a request: one or many, text or token ids."""
    given = body.input
    if isinstance(given, str):
        return [given]
    if not given:
        raise refuse("input", given, "a string, token ids, or a list of either, not empty")
    if isinstance(given[0], int):
        return [[token_id for token_id in given if isinstance(token_id, int)]]
    if len(given) > _MOST_TEXTS:
        raise refuse("input", f"{len(given)} texts", f"{_MOST_TEXTS} texts in one request")
    return [each for each in given if not isinstance(each, int)]


def _data(vectors: FloatArray, *, is_packed: bool) -> list[dict[str, Any]]:
    def coded(row: FloatArray) -> Any:
        return base64.b64encode(row.astype("<f4").tobytes()).decode() if is_packed else row.tolist()

    return [
        {"object": "embedding", "index": place, "embedding": coded(row)} for place, row in enumerate(vectors)
    ]


@router.post("/classify", response_model=ClassificationList)
async def classify(request: Request, caller: Caller, body: ClassifyRequest) -> Response:
    """The most likely label of each text, and the scores of all."""
    require_model(caller, body.model)
    state = state_of(request)
    return await answer(_classify(state, body), request, config=state.config, headers={})


async def _classify(state: ServerState, body: ClassifyRequest) -> dict[str, Any]:
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not 0 < len(texts) <= _MOST_TEXTS:
        raise refuse("input", f"{len(texts)} texts", f"1 to {_MOST_TEXTS} texts in one request")
    async with state.models.use_encoder(body.model) as encoder:
        if not isinstance(encoder, LocalClassifier):
            raise InvalidRequestError(
                f"{body.model!r} is a model for embedding", remedy="choose a classifier", param="model"
            )
        found, labels = await encoder.classify_async(texts), encoder.labels
    state.metrics.prompt_tokens.labels(encoder.name).inc(found.num_tokens)
    return {
        "id": new_completion_id("classify"),
        "object": "list",
        "created": int(time.time()),
        "model": body.model,
        "data": [
            {"index": place, "label": labels[row.argmax()], "probs": row.tolist(), "num_classes": len(labels)}
            for place, row in enumerate(found.scores)
        ],
        "usage": {
            "prompt_tokens": found.num_tokens,
            "completion_tokens": 0,
            "total_tokens": found.num_tokens,
        },
    }
