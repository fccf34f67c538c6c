"""Events of a chat as Anthropic's message: whole, or as the events of its stream."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from cairn.core.chat import ChatRequest, ChoiceEnd, StreamEnd, TextDelta, ToolCall, ToolCallDelta, Usage
from cairn.core.ids import random_hex
from cairn.server.anthropic.types import MessageReply, MessageUsage, TextReply, ToolUseReply
from cairn.server.errors import anthropic_error_body
from cairn.server.openai_types import CairnInfo
from cairn.server.replies import RepliedEvent, Reply
from cairn.server.streaming import Manner, text_frames_like, typed_frame


def manner(request_id: str) -> Manner:
    """Pings and errors of a stream in Anthropic's shape."""
    return Manner(
        keep_alive=typed_frame({"type": "ping"}),
        failure=lambda status, body: typed_frame(anthropic_error_body(status, body, request_id)),
    )


def whole_message(reply: Reply, chat: ChatRequest) -> dict[str, Any]:
    """A reply as one message."""
    assert reply.end is not None
    assert reply.usage is not None
    content = [
        TextReply(text=piece)
        if isinstance(piece, str)
        else ToolUseReply(id=piece.call_id, name=piece.name, input=json.loads(piece.arguments))
        for piece in reply.pieces
    ]
    reason, stop = _ending(reply.end, reply.usage, chat)
    return MessageReply(
        id=_new_message_id(),
        model=chat.model,
        content=content,
        stop_reason=reason,
        stop_sequence=stop,
        usage=_usage(reply.usage),
        cairn=CairnInfo(receipt=reply.receipt_id),
    ).model_dump()


async def message_frames(
    events: AsyncGenerator[RepliedEvent, None], chat: ChatRequest, num_prompt_tokens: int
) -> AsyncGenerator[bytes, None]:
    """Events as those of a stream: a block begins with its first text or call and ends before the next."""
    has_begun = False
    number = -1  # of the block
    text_frame: Callable[[str], bytes] | None = None
    end: ChoiceEnd | None = None
    async with aclosing(events):
        async for event in events:
            if not has_begun:
                has_begun = True
                yield _start(chat, num_prompt_tokens)
            if isinstance(event, TextDelta):
                if text_frame is None:
                    number += 1
                    text_frame = text_frames_like(partial(_text_delta, number), typed_frame)
                    yield _block_start(number, {"type": "text", "text": ""})
                yield text_frame(event.text)
            elif isinstance(event, ToolCallDelta):
                if text_frame is not None:
                    yield _block_stop(number)
                    text_frame = None
                number += 1
                for each in _call(number, event.call):
                    yield each
            elif isinstance(event, ChoiceEnd):
                if text_frame is not None:
                    yield _block_stop(number)
                end = event
            elif isinstance(event, StreamEnd):
                assert end is not None, "a choice ends before the stream does"
                reason, stop = _ending(end, event.usage, chat)
                delta = {"stop_reason": reason, "stop_sequence": stop}
                usage = _usage(event.usage).model_dump()
                yield typed_frame({"type": "message_delta", "delta": delta, "usage": usage})
                yield typed_frame({"type": "message_stop", "cairn": {"receipt": event.receipt_id}})


def _start(chat: ChatRequest, num_prompt_tokens: int) -> bytes:
    """What is read from the cache is not known yet: the end of the stream says it."""
    usage = MessageUsage(input_tokens=num_prompt_tokens, output_tokens=0, cache_read_input_tokens=0)
    message: dict[str, Any] = {
        "id": _new_message_id(),
        "type": "message",
        "role": "assistant",
        "model": chat.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage.model_dump(),
    }
    return typed_frame({"type": "message_start", "message": message})


def _call(number: int, call: ToolCall) -> list[bytes]:
    block = {"type": "tool_use", "id": call.call_id, "name": call.name, "input": {}}
    delta = {"type": "input_json_delta", "partial_json": call.arguments}
    return [
        _block_start(number, block),
        typed_frame({"type": "content_block_delta", "index": number, "delta": delta}),
        _block_stop(number),
    ]


def _block_start(number: int, block: Mapping[str, Any]) -> bytes:
    return typed_frame({"type": "content_block_start", "index": number, "content_block": block})


def _block_stop(number: int) -> bytes:
    return typed_frame({"type": "content_block_stop", "index": number})


def _text_delta(number: int, text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": number, "delta": {"type": "text_delta", "text": text}}


def _ending(end: ChoiceEnd, usage: Usage, chat: ChatRequest) -> tuple[Any, str | None]:
    """Anthropic's reason, and the stop sequence that was met."""
    if end.reason == "tool_calls":
        return "tool_use", None
    if end.reason == "length":
        most = chat.sampling.max_tokens
        is_cut = most is not None and usage.completion_tokens >= most
        return ("max_tokens" if is_cut else "model_context_window_exceeded"), None
    return ("stop_sequence", end.stop) if isinstance(end.stop, str) else ("end_turn", None)


def _usage(usage: Usage) -> MessageUsage:
    return MessageUsage(
        input_tokens=usage.prompt_tokens - usage.cached_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_input_tokens=usage.cached_tokens,
    )


def _new_message_id() -> str:
    return f"msg_{random_hex(32)}"
