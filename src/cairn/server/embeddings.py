"""`/v1/embeddings`: vectors of one or many texts, given as text or as the model's own token ids.

A text that is too long is refused, not cut. Texts of all requests are computed together; a text's vector is
the same bits whatever comes with it.
"""

import base64
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from cairn.core.embedding import Embeddings, TextInput
from cairn.core.errors import InvalidRequestError
from cairn.providers.encoders import LocalEmbedder
from cairn.server.auth import Caller
from cairn.server.openai_types import EmbeddingList, EmbeddingsRequest, refuse
from cairn.server.state import ServerState, state_of
from cairn.server.streaming import answer

router = APIRouter(prefix="/v1", tags=["openai"])

_MOST_TEXTS = 2048  # OpenAI's


@router.post("/embeddings", response_model=EmbeddingList)
async def embeddings(request: Request, _caller: Caller, body: EmbeddingsRequest) -> Response:
    """Vectors of texts."""
    state = state_of(request)
    return await answer(_embed(state, body), request, config=state.config, headers={})


async def _embed(state: ServerState, body: EmbeddingsRequest) -> dict[str, Any]:
    texts = texts_of(body)
    async with state.models.use_encoder(body.model) as encoder:
        if not isinstance(encoder, LocalEmbedder):
            raise InvalidRequestError(
                f"{body.model!r} is a model for classification", remedy="choose an embedder", param="model"
            )
        if body.dimensions not in (None, encoder.dimensions):
            raise refuse(
                "dimensions", body.dimensions, f"{encoder.dimensions}, this model's vectors cannot be cut"
            )
        found = await encoder.embed_async(texts)
    state.metrics.prompt_tokens.labels(encoder.name).inc(found.num_tokens)
    return {
        "object": "list",
        "model": body.model,
        "data": _data(found, is_packed=body.encoding_format == "base64"),
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


def _data(found: Embeddings, *, is_packed: bool) -> list[dict[str, Any]]:
    def coded(place: int) -> Any:
        row = found.vectors[place]
        return base64.b64encode(row.astype("<f4").tobytes()).decode() if is_packed else row.tolist()

    return [
        {"object": "embedding", "index": place, "embedding": coded(place)}
        for place in range(len(found.vectors))
    ]
