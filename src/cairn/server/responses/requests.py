"""Items of a response's input, and what was said before, as a chat."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from cairn.core.errors import ContextLengthError, InvalidRequestError
from cairn.core.grammar import Grammar
from cairn.core.ids import random_hex
from cairn.providers.protocol import TextProvider
from cairn.server.requests import chosen_tool, file_search_of
from cairn.server.responses.types import (
    FunctionCallItem,
    FunctionChoice,
    FunctionOutputItem,
    FunctionTool,
    IgnoredItem,
    InputImage,
    InputItem,
    InputText,
    MessageItem,
    NewResponse,
    Part,
)

LOGPROBS = "message.output_text.logprobs"
_SHARED = ("temperature", "top_p", "top_k", "min_p", "seed")
_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


def new_item_id(kind: str) -> str:
    """`msg_…`, `fc_…`."""
    return f"{_PREFIXES.get(kind, 'item')}_{random_hex(32)}"


def input_items(body: NewResponse) -> list[InputItem]:
    """The items of the input, each with an id."""
    if isinstance(body.input, str):
        return [MessageItem(id=new_item_id("message"), role="user", content=body.input)]
    return [item.model_copy(update={"id": item.id or new_item_id(item.type)}) for item in body.input]


def to_chat_request(
    body: NewResponse,
    history: Sequence[InputItem],
    principal: Principal,
    defaults: Mapping[str, Any],
    receipt_id: str,
) -> ChatRequest:
    """A body after what was said before as a `ChatRequest`, whose id is the receipt's."""
    tools = tuple(
        ToolDefinition(tool.name, tool.description or "", tool.parameters or {})
        for tool in body.tools or ()
        if isinstance(tool, FunctionTool)
    )
    effort = body.reasoning.effort if body.reasoning else None
    return ChatRequest(
        model=body.model,
        messages=_messages(body, history),
        sampling=_sampling(body, defaults),
        tools=tools,
        tool_choice=chosen_tool(
            body.tool_choice,
            tools,
            name=body.tool_choice.name if isinstance(body.tool_choice, FunctionChoice) else None,
            param="tool_choice.name",
            search=file_search_of(body.tools, body.tool_choice),
        ),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        template_options={"reasoning_effort": effort} if effort else {},
        principal=principal,
        request_id=receipt_id,
        given=frozenset(name for name in ("temperature", "top_p") if getattr(body, name) is not None),
        is_streamed=bool(body.stream),
    )


async def fitted(chat: ChatRequest, provider: TextProvider) -> ChatRequest:
    """The chat without its oldest turns, as many as must go for prompt and reply to fit (`truncation: auto`).

    The system's words and the last turn stay. Room is kept for `max_output_tokens`, at most a quarter of the
    context.
    """
    quarter = provider.context_length // 4
    most = provider.context_length - max(1, min(chat.sampling.max_tokens or quarter, quarter))
    system = tuple(message for message in chat.messages if message.role == "system")
    turns = tuple(message for message in chat.messages if message.role != "system")
    # Never between a call and what it gave.
    starts = [place for place, message in enumerate(turns) if message.role == "user"] or [0]
    least, last = 0, len(starts) - 1
    if await provider.count_prompt(chat) <= most:
        return chat
    while least < last:
        middle = (least + last) // 2
        shorter = replace(chat, messages=system + turns[starts[middle] :])
        if await provider.count_prompt(shorter) <= most:
            last = middle
        else:
            least = middle + 1
    shortest = replace(chat, messages=system + turns[starts[least] :])
    if (num_tokens := await provider.count_prompt(shortest)) > most:
        raise ContextLengthError(
            f"the last turn alone makes a prompt of {num_tokens} tokens, of {provider.context_length} that "
            f"prompt and reply may have {most} may be prompt",
            remedy="shorten it, or use a model of longer context",
            param="input",
        )
    return shortest


def _sampling(body: NewResponse, defaults: Mapping[str, Any]) -> SamplingParams:
    given = {name: value for name in _SHARED if (value := getattr(body, name)) is not None}
    is_asked = LOGPROBS in (body.include or ())
    if body.top_logprobs and not is_asked:
        raise InvalidRequestError(
            "top_logprobs needs the log-probabilities themselves",
            remedy=f"add {LOGPROBS!r} to include",
            param="top_logprobs",
        )
    return SamplingParams(
        **{
            **defaults,
            **given,
            "max_tokens": body.max_output_tokens,
            "grammar": _grammar(body),
            "logprobs": body.top_logprobs or 0 if is_asked else None,
        }
    )


def _grammar(body: NewResponse) -> Grammar | None:
    if body.text is None:
        return None
    form = body.text.format
    is_schema = form.type == "json_schema"
    if is_schema != (form.schema_ is not None) or is_schema != (form.name is not None):
        has = [name for name in ("name", "schema_") if getattr(form, name) is not None]
        raise InvalidRequestError(
            f"text.format is of type {form.type!r} and has {' and '.join(has).rstrip('_') or 'no schema'}",
            remedy="schema and name belong to the type 'json_schema', and to that alone",
            param="text.format",
        )
    if form.schema_ is not None:
        return Grammar.json_schema(form.schema_, param="text.format.schema")
    return Grammar("json_object", param="text.format") if form.type == "json_object" else None


def _messages(body: NewResponse, history: Sequence[InputItem]) -> tuple[Message, ...]:
    messages: list[Message] = []
    names: dict[str, str] = {}  # of functions, by call
    if body.instructions:
        messages.append(Message("system", (TextPart(body.instructions),)))
    for place, item in enumerate([*history, *input_items(body)], start=-len(history)):
        if isinstance(item, IgnoredItem):
            continue
        if isinstance(item, FunctionCallItem):
            names[item.call_id] = item.name
            call = ToolCall(item.call_id, item.name, item.arguments)
            if messages and messages[-1].role == "assistant":
                messages[-1] = replace(messages[-1], tool_calls=(*messages[-1].tool_calls, call))
            else:
                messages.append(Message("assistant", tool_calls=(call,)))
        elif isinstance(item, FunctionOutputItem):
            if item.call_id not in names:
                raise InvalidRequestError(
                    f"input[{place}].call_id is {item.call_id!r}, which no function_call before it has",
                    remedy="send the call too, or name the response that made it in previous_response_id",
                    param=f"input[{place}].call_id",
                )
            content = _content(item.output, f"input[{place}].output")
            messages.append(Message("tool", content, tool_call_id=item.call_id, name=names[item.call_id]))
        else:
            role = "system" if item.role == "developer" else item.role
            messages.append(Message(role, _content(item.content, f"input[{place}].content")))
    return tuple(messages)


def _content(given: str | Sequence[Part], where: str) -> tuple[ContentPart, ...]:
    if isinstance(given, str):
        return (TextPart(given),)
    parts: list[ContentPart] = []
    for part in given:
        if isinstance(part, InputImage):
            if part.image_url is None:
                raise InvalidRequestError(f"an image of {where} has no image_url", param=where)
            parts.append(ImagePart(part.image_url))
        else:
            parts.append(TextPart(part.text if isinstance(part, InputText) else part.refusal))
    return tuple(parts)
