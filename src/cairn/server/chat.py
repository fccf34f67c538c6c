"""`/v1/models` and `/v1/chat/completions`, whole or as a stream."""

from collections.abc import AsyncGenerator, Callable, Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from cairn.core.chat import (
    ChoiceEnd,
    Principal,
    StreamEnd,
    TextDelta,
    ToolCallDelta,
)
from cairn.core.errors import NotFoundError
from cairn.providers.protocol import TextProvider
from cairn.registry import new_receipt_id
from cairn.server.auth import Caller, MayReadModels
from cairn.server.openai_types import (
    ChatCompletion,
    ChatCompletionRequest,
    ModelInfo,
    ModelList,
    ModelState,
)
from cairn.server.replies import (
    Head,
    RepliedEvent,
    Sources,
    ending_json,
    fingerprint,
    logprobs_json,
    replied,
    streamed,
    tell_target,
    usage_json,
)
from cairn.server.requests import file_search_of, new_completion_id, texts_in, to_chat_request
from cairn.server.state import ServedModel, ServerState, state_of
from cairn.server.streaming import DONE, STREAMED, EventStream, answer, frame, text_frames_like
from cairn.server.usage.admission import Admission, Ticket, about_tokens

LIST_MODELS = "list them: GET /v1/models"
router = APIRouter(prefix="/v1", tags=["openai"])


@router.get("/models")
def list_models(request: Request, caller: MayReadModels) -> ModelList:
    """Names that may be asked for, by a key for certain models those alone."""
    return ModelList(data=[_model(each) for each in _open_to(request, caller)])


@router.get("/models/{name:path}")
def get_model(request: Request, caller: MayReadModels, name: str) -> ModelInfo:
    """One of them."""
    for served in _open_to(request, caller):
        if served.name == name:
            return _model(served)
    raise NotFoundError(f"no model {name!r}", remedy=LIST_MODELS)


@router.post("/chat/completions", response_model=ChatCompletion, responses=STREAMED)
async def chat_completions(
    request: Request, caller: Caller, admission: Admission, body: ChatCompletionRequest
) -> Response:
    """Continue a conversation."""
    state = state_of(request)
    receipt_id = new_receipt_id()
    headers = {"x-cairn-receipt": receipt_id} | await _admit(admission, body, receipt_id)
    begin = partial(_begin, state, caller, admission, body, headers)
    if body.stream:
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        frames = streamed(
            state.models,
            body.model,
            lambda provider: chat_frames(*begin(provider), body.n or 1, with_usage=with_usage),
        )
        return EventStream(frames, config=state.config, headers=headers)

    async def whole() -> dict[str, Any]:
        async with state.models.use(body.model) as provider:
            return await collect_chat(*begin(provider))

    return await answer(whole(), request, config=state.config, headers=headers)


async def _admit(admission: Ticket, body: ChatCompletionRequest, receipt_id: str) -> dict[str, str]:
    return await admission.admit(
        body.model,
        prompt_tokens=about_tokens(texts_in(body)),
        completion_tokens=body.max_tokens
        if body.max_completion_tokens is None
        else body.max_completion_tokens,
        num_choices=body.n or 1,
        receipt_id=receipt_id,
    )


def _begin(
    state: ServerState,
    caller: Principal,
    admission: Ticket,
    body: ChatCompletionRequest,
    headers: dict[str, str],
    provider: TextProvider,
) -> tuple[AsyncGenerator[RepliedEvent, None], Head]:
    """The events of an answer, and what all its chunks repeat."""
    tell_target(provider, headers)
    chat = to_chat_request(body, caller, provider.sampling_defaults, headers["x-cairn-receipt"])
    events = replied(state, admission, provider, chat, file_search_of(body.tools, body.tool_choice))
    head = Head(
        id=new_completion_id("chatcmpl"),
        object="chat.completion.chunk" if body.stream else "chat.completion",
        model=body.model,
        system_fingerprint=fingerprint(provider),
    )
    return events, head


async def chat_frames(
    events: AsyncGenerator[RepliedEvent, None], head: Head, num_choices: int, *, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    """Events as chunks. The last chunk with choices waits for the end, so that it can carry the receipt."""
    common = head.as_json() | ({"usage": None} if with_usage else {})
    plain: dict[int, Callable[[str], bytes]] = {}
    is_first = True
    held: dict[str, Any] | None = None
    try:
        async for event in events:
            if is_first:
                is_first = False
                for index in range(num_choices):
                    yield frame(common | _delta(index, {"role": "assistant", "content": ""}))
            if isinstance(event, StreamEnd):
                receipt = {"cairn": ending_json(event)}
                assert held is not None, "a choice ends before the stream does"
                if with_usage:
                    yield frame(held)
                    held = common | {"choices": [], "usage": usage_json(event.usage)}
                yield frame(held | receipt)
                yield DONE
                return
            if held is not None:
                yield frame(held)
                held = None
            if isinstance(event, ChoiceEnd):
                held = common | _delta(event.index, {}, reason=event.reason)
            elif isinstance(event, TextDelta) and not event.logprobs:
                if event.index not in plain:
                    plain[event.index] = text_frames_like(partial(_plain, common, event.index))
                yield plain[event.index](event.text)
            else:
                yield frame(common | _event_delta(event))
    finally:
        await events.aclose()


async def collect_chat(events: AsyncGenerator[RepliedEvent, None], head: Head) -> dict[str, Any]:
    """Events as one answer."""
    choices: dict[int, dict[str, Any]] = {}
    ending: StreamEnd | None = None
    try:
        async for event in events:
            if isinstance(event, StreamEnd):
                ending = event
                continue
            choice = choices.setdefault(
                event.index, {"text": "", "calls": [], "logprobs": [], "reason": "", "sources": {}}
            )
            if isinstance(event, TextDelta):
                choice["text"] += event.text
                choice["logprobs"] += logprobs_json(event.logprobs)
            elif isinstance(event, ToolCallDelta):
                choice["calls"].append(_call(event))
            elif isinstance(event, Sources):
                choice["sources"] = event.as_json()
            else:
                choice["reason"] = event.reason
    finally:
        await events.aclose()
    assert ending is not None, "a stream ends with its StreamEnd"
    return head.as_json() | {
        "choices": [_choice(index, choices[index]) for index in sorted(choices)],
        "usage": usage_json(ending.usage),
        "cairn": ending_json(ending),
    }


def _choice(index: int, parts: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": parts["text"], "refusal": None}
    if parts["calls"]:
        message |= {"content": parts["text"] or None, "tool_calls": parts["calls"]}
    message |= parts["sources"]
    return {
        "index": index,
        "message": message,
        "logprobs": {"content": parts["logprobs"], "refusal": None} if parts["logprobs"] else None,
        "finish_reason": parts["reason"],
    }


def _event_delta(event: TextDelta | ToolCallDelta | Sources) -> dict[str, Any]:
    if isinstance(event, Sources):
        return _delta(event.index, {"content": ""} | event.as_json())
    if isinstance(event, ToolCallDelta):
        return _delta(event.index, {"tool_calls": [{"index": event.position, **_call(event)}]})
    logprobs = {"content": logprobs_json(event.logprobs), "refusal": None} if event.logprobs else None
    return _delta(event.index, {"content": event.text}, logprobs=logprobs)


def _plain(common: Mapping[str, Any], index: int, text: str) -> dict[str, Any]:
    choice = {"index": index, "logprobs": None, "finish_reason": None, "delta": {"content": text}}
    return {**common, "choices": [choice]}


def _delta(
    index: int, delta: dict[str, Any], *, logprobs: Any = None, reason: str | None = None
) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}]}


def _call(event: ToolCallDelta) -> dict[str, Any]:
    function = {"name": event.call.name, "arguments": event.call.arguments}
    return {"id": event.call.call_id, "type": "function", "function": function}


def _open_to(request: Request, caller: Principal) -> list[ServedModel]:
    models = state_of(request).models
    found = (*models.served(), *models.encoders())
    return [each for each in found if caller.models is None or each.name in caller.models]


def _model(served: ServedModel) -> ModelInfo:
    state = ModelState(
        state=served.state,
        resident_bytes=served.num_bytes,
        loading=served.note,
        pinned=served.is_pinned,
        task=served.task,
    )
    return ModelInfo(
        id=served.name,
        created=int(served.created_at),
        digest=served.digest,
        root=served.digest,
        parent=served.parent or None,
        cairn=state,
    )
