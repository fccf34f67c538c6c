"""OpenAI's request bodies as what providers take; what cannot be done is refused by name."""

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
from cairn.core.ids import random_hex
from cairn.server.openai_types import (
    ChatCompletionRequest,
    FileSearchChoice,
    FileSearchSpec,
    MessageSpec,
    SamplingFields,
    TextCompletionRequest,
    ToolChoice,
    ToolSpec,
    refuse,
)
from cairn.server.structured import grammar_of

_SHARED = (
    "frequency_penalty",
    "max_tokens",
    "min_p",
    "n",
    "presence_penalty",
    "repetition_penalty",
    "seed",
    "temperature",
    "top_k",
    "top_p",
)


def to_chat_request(
    body: ChatCompletionRequest, principal: Principal, defaults: Mapping[str, Any], receipt_id: str
) -> ChatRequest:
    """A chat body as a `ChatRequest`, whose id is the receipt's."""
    _refuse_unserved(body)
    tools = tuple(
        ToolDefinition(tool.function.name, tool.function.description or "", tool.function.parameters or {})
        for tool in body.tools or ()
        if isinstance(tool, ToolSpec)
    )
    return ChatRequest(
        model=body.model,
        messages=tuple(_message(spec, place) for place, spec in enumerate(body.messages)),
        sampling=_chat_sampling(body, defaults),
        tools=tools,
        tool_choice=chosen_tool(
            body.tool_choice,
            tools,
            name=body.tool_choice.function.name if isinstance(body.tool_choice, ToolChoice) else None,
            param="tool_choice.function.name",
            search=file_search_of(body.tools, body.tool_choice),
        ),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        template_options=_template_options(body),
        principal=principal,
        request_id=receipt_id,
        given=given_of(body),
        is_streamed=bool(body.stream),
    )


def texts_in(body: ChatCompletionRequest) -> list[str]:
    """What a chat body says to the model, to judge its length by before a model is at hand."""
    texts = [] if not body.tools else [str(tool.model_dump()) for tool in body.tools]
    for message in body.messages:
        content = message.content
        if isinstance(content, str):
            texts.append(content)
        else:
            texts += [part.text for part in content or () if part.text is not None]
    return texts


def file_search_of(tools: Sequence[object] | None, choice: object) -> FileSearchSpec | None:
    """The search of collections that is among tools, unless none is to be used."""
    found = [tool for tool in tools or () if isinstance(tool, FileSearchSpec)]
    if len(found) > 1:
        raise InvalidRequestError(
            "tools holds file_search twice", remedy="name all collections in one", param="tools"
        )
    return found[0] if found and choice != "none" else None


def chosen_tool(
    choice: object,
    tools: Sequence[ToolDefinition],
    *,
    name: str | None,
    param: str,
    search: FileSearchSpec | None = None,
) -> str:
    """`ChatRequest.tool_choice` of a body's choice, whatever API; `name` of the one tool it demands."""
    if choice in (None, "auto", "none"):
        return str(choice or "auto")
    is_search = isinstance(choice, FileSearchChoice) or (choice == "required" and not tools)
    if is_search and search is not None:
        return "auto"  # the search is made anyway
    if is_search or not tools:
        raise InvalidRequestError("tool_choice needs tools", param="tool_choice")
    names = [tool.name for tool in tools]
    if name is not None and name not in names:
        raise refuse(param, name, ", ".join(names))
    return "required" if name is None else name


def to_sampling(body: SamplingFields, defaults: Mapping[str, Any], **extra: Any) -> SamplingParams:
    """The sampling of a body; what it leaves open is as the model's makers recommend."""
    given = {name: value for name in _SHARED if (value := getattr(body, name)) is not None}
    if isinstance(body.stop, str):
        given["stop"] = (body.stop,)
    elif body.stop:
        given["stop"] = tuple(body.stop)
    if given.get("top_k") == -1:
        given["top_k"] = 0  # vLLM's way to say "all"
    return SamplingParams(
        **{
            **defaults,
            **given,
            "logit_bias": _logit_bias(body.logit_bias),
            "stop_token_ids": tuple(body.stop_token_ids or ()),
            "ignore_eos": body.ignore_eos,
            "grammar": grammar_of(body),
            **extra,
        }
    )


def given_of(body: SamplingFields) -> frozenset[str]:
    """Names of the sampling values that a body says itself."""
    return frozenset(name for name in _SHARED if getattr(body, name) is not None)


def prompts_of(body: TextCompletionRequest, most: int) -> list[str | tuple[int, ...]]:
    """The prompts of a plain completion: one or many, text or token ids."""
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise refuse("prompt", prompt, "a string, token ids, or a list of either, not empty")
    if isinstance(prompt[0], int):
        return [tuple(prompt)]
    if len(prompt) * (body.n or 1) > most:
        raise refuse("prompt", f"{len(prompt)} prompts, n={body.n or 1}", f"{most} choices in one request")
    return [each if isinstance(each, str) else tuple(each) for each in prompt]


def _refuse_unserved(body: ChatCompletionRequest) -> None:
    if body.modalities not in (None, [], ["text"]):
        raise refuse("modalities", body.modalities, "['text']")
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequestError("top_logprobs needs logprobs: true", param="top_logprobs")
    if body.stream_options is not None and not body.stream:
        raise InvalidRequestError("stream_options needs stream: true", param="stream_options")


def _chat_sampling(body: ChatCompletionRequest, defaults: Mapping[str, Any]) -> SamplingParams:
    extra: dict[str, Any] = {}
    if body.logprobs:
        extra["logprobs"] = body.top_logprobs or 0
    if body.max_completion_tokens is not None:
        extra["max_tokens"] = body.max_completion_tokens
    return to_sampling(body, defaults, **extra)


def _template_options(body: ChatCompletionRequest) -> dict[str, Any]:
    options = dict(body.chat_template_kwargs or {})
    if body.reasoning_effort is not None:
        options["reasoning_effort"] = body.reasoning_effort
    return options


def _message(spec: MessageSpec, place: int) -> Message:
    if spec.role == "tool" and not spec.tool_call_id:
        raise InvalidRequestError(
            f"messages[{place}] has the role 'tool' and no tool_call_id",
            param=f"messages[{place}].tool_call_id",
        )
    if spec.content is None and not spec.tool_calls and spec.role != "assistant":
        raise InvalidRequestError(f"messages[{place}] has no content", param=f"messages[{place}].content")
    return Message(
        role="system" if spec.role == "developer" else spec.role,
        content=_content(spec, place),
        tool_calls=tuple(
            ToolCall(call.id, call.function.name, call.function.arguments) for call in spec.tool_calls or ()
        ),
        tool_call_id=spec.tool_call_id,
        name=spec.name,
    )


def _content(spec: MessageSpec, place: int) -> tuple[ContentPart, ...]:
    if spec.content is None:
        return ()
    if isinstance(spec.content, str):
        return (TextPart(spec.content),)
    parts: list[ContentPart] = []
    for part in spec.content:
        value = {"text": part.text, "refusal": part.refusal, "image_url": part.image_url}[part.type]
        if value is None:
            raise InvalidRequestError(
                f"a part of messages[{place}] has the type {part.type!r} and no {part.type!r}",
                param=f"messages[{place}].content",
            )
        parts.append(TextPart(value) if isinstance(value, str) else ImagePart(value.url))
    return tuple(parts)


def _logit_bias(given: Mapping[str, float] | None) -> dict[int, float]:
    try:
        return {int(token_id): bias for token_id, bias in (given or {}).items()}
    except ValueError:
        raise refuse("logit_bias", dict(given or {}), "token ids as keys") from None


def new_completion_id(kind: str) -> str:
    """`chatcmpl-…` or `cmpl-…`."""
    return f"{kind}-{random_hex(32)}"
