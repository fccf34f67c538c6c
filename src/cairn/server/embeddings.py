"""`/v1/embeddings`: vectors of texts, given as text or as the model's own token ids; `/v1/classify`: labels.

A text that is too long is refused, not cut. Texts of all requests are computed together; what is said of a
text is the same bits whatever comes with it.
"""

import base64
import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from cairn.core.chat import Principal, Usage
from cairn.core.embedding import TextInput
from cairn.core.errors import InvalidRequestError
from cairn.engine.runner import FloatArray
from cairn.providers.encoders import LocalClassifier
from cairn.server.auth import Caller
from cairn.server.openai_types import (
    ClassificationList,
    ClassifyRequest,
    EmbeddingList,
    EmbeddingsRequest,
    refuse,
)
from cairn.server.requests import new_completion_id
from cairn.server.routing.embedding import RoutedEmbedder, embed_here
from cairn.server.routing.provider import TARGET_HEADER
from cairn.server.state import ServerState, state_of
from cairn.server.streaming import answer
from cairn.server.usage.admission import Admission, Ticket, about_tokens

router = APIRouter(prefix="/v1", tags=["openai"])

_MOST_TEXTS = 2048  # OpenAI's


@router.post("/embeddings", response_model=EmbeddingList)
async def embeddings(
    request: Request, caller: Caller, admission: Admission, body: EmbeddingsRequest
) -> Response:
    """Vectors of texts."""
    state = state_of(request)
    texts = texts_of(body)
    headers = await admission.admit(body.model, prompt_tokens=about_tokens(texts))
    work = _embed(state, caller, admission, body, texts, headers)
    return await answer(work, request, config=state.config, headers=headers)


async def _embed(
    state: ServerState,
    caller: Principal,
    admission: Ticket,
    body: EmbeddingsRequest,
    texts: list[TextInput],
    headers: dict[str, str],
) -> dict[str, Any]:
    if (route := state.routes.route(body.model)) is not None:
        routed = RoutedEmbedder(state.routes, body.model, route, state.models)
        found, target = await routed.embed(texts, body.dimensions, caller.user_id)
        name, headers[TARGET_HEADER] = body.model, target
    else:
        found, name = await embed_here(state.models, body.model, texts, body.dimensions)
        target = name
    admission.add(Usage(found.num_tokens, 0), target)
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
async def classify(request: Request, caller: Caller, admission: Admission, body: ClassifyRequest) -> Response:
    """The most likely label of each text, and the scores of all."""
    state = state_of(request)
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not 0 < len(texts) <= _MOST_TEXTS:
        raise refuse("input", f"{len(texts)} texts", f"1 to {_MOST_TEXTS} texts in one request")
    headers = await admission.admit(body.model, prompt_tokens=about_tokens(texts))
    work = _classify(state, admission, body.model, texts)
    return await answer(work, request, config=state.config, headers=headers)


async def _classify(state: ServerState, admission: Ticket, model: str, texts: list[str]) -> dict[str, Any]:
    async with state.models.use_encoder(model) as encoder:
        if not isinstance(encoder, LocalClassifier):
            raise InvalidRequestError(
                f"{model!r} is a model for embedding", remedy="choose a classifier", param="model"
            )
        found, labels = await encoder.classify_async(texts), encoder.labels
        admission.add(Usage(found.num_tokens, 0), encoder.name)
    state.metrics.prompt_tokens.labels(encoder.name).inc(found.num_tokens)
    return {
        "id": new_completion_id("classify"),
        "object": "list",
        "created": int(time.time()),
        "model": model,
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
