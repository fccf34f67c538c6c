"""`/v1/messages` and `/v1/messages/count_tokens`."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from cairn.providers.protocol import TextProvider
from cairn.registry import new_receipt_id
from cairn.server.anthropic.replies import manner, message_frames, whole_message
from cairn.server.anthropic.requests import to_chat_request
from cairn.server.anthropic.types import MessageReply, MessagesPrompt, MessagesRequest, TokenCount
from cairn.server.auth import Caller
from cairn.server.errors import AnthropicErrorBody
from cairn.server.identity.permissions import require_model
from cairn.server.replies import replied, streamed, tell_target, whole_reply
from cairn.server.state import state_of
from cairn.server.streaming import STREAMED, EventStream, answer
from cairn.server.usage.admission import Admission, about_tokens

router = APIRouter(
    prefix="/v1",
    tags=["anthropic"],
    responses={"4XX": {"model": AnthropicErrorBody}, "5XX": {"model": AnthropicErrorBody}},
)


@router.post("/messages", response_model=MessageReply, responses=STREAMED)
async def create_message(
    request: Request, caller: Caller, admission: Admission, body: MessagesRequest
) -> Response:
    """Continue a conversation, in Anthropic's shape."""
    state = state_of(request)
    receipt_id = new_receipt_id()
    request_id = request.scope["request_id"]
    headers = {"x-cairn-receipt": receipt_id, "request-id": request_id}
    headers |= await admission.admit(
        body.model,
        prompt_tokens=about_tokens([body.model_dump_json(exclude_none=True)]),
        completion_tokens=body.max_tokens,
        receipt_id=receipt_id,
    )

    async def frames(provider: TextProvider) -> AsyncGenerator[bytes, None]:
        tell_target(provider, headers)
        chat = to_chat_request(body, caller, provider.sampling_defaults, receipt_id)
        num_prompt_tokens = await provider.count_prompt(chat)
        events = replied(state, admission, provider, chat)
        async with aclosing(message_frames(events, chat, num_prompt_tokens)) as made:
            async for each in made:
                yield each

    if body.stream:
        stream = streamed(state.models, body.model, frames)
        return EventStream(stream, config=state.config, headers=headers, manner=manner(request_id))

    async def whole() -> dict[str, Any]:
        async with state.models.use(body.model) as provider:
            tell_target(provider, headers)
            chat = to_chat_request(body, caller, provider.sampling_defaults, receipt_id)
            return whole_message(await whole_reply(replied(state, admission, provider, chat)), chat)

    return await answer(whole(), request, config=state.config, headers=headers)


@router.post("/messages/count_tokens", response_model=TokenCount)
async def count_message_tokens(request: Request, caller: Caller, body: MessagesPrompt) -> Response:
    """Tokens that a conversation with its system prompt and tools would be, by the model's own template."""
    require_model(caller, body.model)
    state = state_of(request)

    async def count() -> dict[str, int]:
        async with state.models.use(body.model) as provider:
            chat = to_chat_request(body, caller, provider.sampling_defaults)
            return {"input_tokens": await provider.count_prompt(chat)}

    headers = {"request-id": request.scope["request_id"]}
    return await answer(count(), request, config=state.config, headers=headers)
