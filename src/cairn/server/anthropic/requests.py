"""Anthropic's request bodies as chats; what cannot be done is refused by name."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cairn.core.chat import (
    ChatRequest,
    ContentPart,
    ImagePart,
    Message,
    Principal,
    SamplingParams,
    TextPart,
    ToolCall,
    ToolDefinition,
)
from cairn.core.errors import InvalidRequestError
from cairn.core.grammar import Grammar
from cairn.server.anthropic.types import (
    Base64Source,
    Block,
    ImageBlock,
    MessagesPrompt,
    MessagesRequest,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    Turn,
)
from cairn.server.openai_types import refuse
from cairn.server.requests import chosen_tool

_MOST_STOPS = 16
_OWNERS: dict[type, str] = {
    ToolUseBlock: "assistant",
    ThinkingBlock: "assistant",
    ToolResultBlock: "user",
    ImageBlock: "user",
}


def to_chat_request(
    body: MessagesPrompt, principal: Principal, defaults: Mapping[str, Any], receipt_id: str = ""
) -> ChatRequest:
    """A body as a `ChatRequest`, whose id is the receipt's."""
    if body.thinking is not None and body.thinking.type not in ("disabled", "adaptive"):
        raise refuse("thinking.type", body.thinking.type, "disabled, adaptive")
    if body.messages[-1].role == "assistant":
        raise InvalidRequestError(
            "messages ends with the assistant's turn, which is not continued here",
            remedy="end with the user's; output_config.format holds a reply to a form",
            param="messages",
        )
    tools = _tools(body)
    choice = body.tool_choice
    effort = body.output_config.effort if body.output_config else None
    user_id = body.metadata.user_id if isinstance(body, MessagesRequest) and body.metadata else None
    return ChatRequest(
        model=body.model,
        messages=_messages(body),
        sampling=_sampling(body, defaults),
        tools=tools,
        tool_choice=_tool_choice(body, tools),
        parallel_tool_calls=choice is None or not choice.disable_parallel_tool_use,
        template_options={"reasoning_effort": effort} if effort else {},
        principal=principal,
        request_id=receipt_id,
        record={"metadata": {"user_id": user_id}} if user_id else {},
        given=frozenset(
            name for name in ("temperature", "top_k", "top_p") if getattr(body, name, None) is not None
        ),
        is_streamed=bool(getattr(body, "stream", False)),
    )


def _sampling(body: MessagesPrompt, defaults: Mapping[str, Any]) -> SamplingParams:
    form = body.output_config.format if body.output_config else None
    grammar = Grammar.json_schema(form.schema_, param="output_config.format.schema") if form else None
    if not isinstance(body, MessagesRequest):
        return SamplingParams(grammar=grammar)
    stops = tuple(body.stop_sequences or ())
    if len(stops) > _MOST_STOPS or not all(stops):
        raise refuse("stop_sequences", list(stops), f"at most {_MOST_STOPS} texts, none of them empty")
    names = ("max_tokens", "temperature", "top_k", "top_p")
    given = {name: value for name in names if (value := getattr(body, name)) is not None}
    return SamplingParams(**{**defaults, **given, "stop": stops, "grammar": grammar})


def _tools(body: MessagesPrompt) -> tuple[ToolDefinition, ...]:
    tools = []
    for place, tool in enumerate(body.tools or ()):
        if tool.type not in (None, "custom"):
            raise refuse(f"tools[{place}].type", tool.type, "custom: tools of your own")
        if tool.input_schema is None:
            where = f"tools[{place}].input_schema"
            raise InvalidRequestError(f"{where} is missing", remedy="say what the tool takes", param=where)
        tools.append(ToolDefinition(tool.name, tool.description or "", tool.input_schema))
    return tuple(tools)


def _tool_choice(body: MessagesPrompt, tools: Sequence[ToolDefinition]) -> str:
    kind = body.tool_choice.type if body.tool_choice else "auto"
    name = body.tool_choice.name or "" if body.tool_choice and kind == "tool" else None
    return chosen_tool("required" if kind == "any" else kind, tools, name=name, param="tool_choice.name")


def _messages(body: MessagesPrompt) -> tuple[Message, ...]:
    """The turns, those of one role behind each other as one; results of calls are messages of their own."""
    messages: list[Message] = []
    names: dict[str, str] = {}  # of the tools, by call
    if isinstance(body.system, str):
        messages.append(Message("system", (TextPart(body.system),)))
    elif body.system:
        messages.append(Message("system", tuple(TextPart(block.text) for block in body.system)))
    for place, turn in enumerate(body.messages):
        for message in _turn(turn, place, names):
            last = messages[-1] if messages else None
            if last is not None and last.role == message.role != "tool":
                content, calls = last.content + message.content, last.tool_calls + message.tool_calls
                messages[-1] = Message(message.role, content, calls)
            else:
                messages.append(message)
    return tuple(messages)


def _turn(turn: Turn, place: int, names: dict[str, str]) -> list[Message]:
    if isinstance(turn.content, str):
        return [Message(turn.role, (TextPart(turn.content),))]
    content: list[ContentPart] = []
    calls: list[ToolCall] = []
    results: list[Message] = []
    for number, block in enumerate(turn.content):
        where = f"messages[{place}].content[{number}]"
        _check_role(block, turn.role, where)
        if isinstance(block, TextBlock | ImageBlock):
            content.append(_part(block))
        elif isinstance(block, ToolUseBlock):
            arguments = json.dumps(block.input, ensure_ascii=False)
            calls.append(ToolCall(block.id, block.name, arguments))
            names[block.id] = block.name
        elif isinstance(block, ToolResultBlock):
            results.append(_result(block, where, names))
    if content or calls or not results:
        results.append(Message(turn.role, tuple(content), tuple(calls)))
    return results


def _check_role(block: Block, role: str, where: str) -> None:
    """Who may say what: calls and thoughts are the assistant's, images and results of calls the user's."""
    owner = _OWNERS.get(type(block), role)
    if owner != role:
        raise InvalidRequestError(
            f"{where} is of type {block.type!r} and the turn is the {role}'s, allowed: the {owner}'s",
            param=where,
        )


def _result(block: ToolResultBlock, where: str, names: Mapping[str, str]) -> Message:
    if block.tool_use_id not in names:
        raise InvalidRequestError(
            f"{where}.tool_use_id is {block.tool_use_id!r}, which no tool_use before it has",
            remedy="send the assistant's turn with the call too",
            param=f"{where}.tool_use_id",
        )
    given = block.content or ""
    content = (TextPart(given),) if isinstance(given, str) else tuple(_part(each) for each in given)
    if block.is_error:
        content = (TextPart("Error: "), *content)
    return Message("tool", content, tool_call_id=block.tool_use_id, name=names[block.tool_use_id])


def _part(block: TextBlock | ImageBlock) -> ContentPart:
    if isinstance(block, TextBlock):
        return TextPart(block.text)
    if isinstance(block.source, Base64Source):
        return ImagePart(f"data:{block.source.media_type};base64,{block.source.data}")
    return ImagePart(block.source.url)
