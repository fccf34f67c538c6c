"""Anthropic's shape: requests out, events and whole answers in.

It has no `n`, log-probabilities, penalties, temperatures above 1, or grammars but JSON schemas: a request
that needs one is refused by name, so that another target may answer it. A seed is not sent: it has none.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import from_json

from cairn.core.chat import (
    ChatEvent,
    ChatRequest,
    ChoiceEnd,
    FinishReason,
    ImagePart,
    Message,
    SamplingParams,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from cairn.core.errors import InvalidRequestError
from cairn.providers.remote.config import ProviderConfig
from cairn.providers.remote.errors import UnfitTargetError
from cairn.providers.remote.events import shaped

VERSION = "2023-06-01"

_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""What an error's type says within a stream, where there is no status."""


def chat_body(request: ChatRequest, model: str, config: ProviderConfig) -> dict[str, Any]:
    """A conversation as `POST /messages` takes it."""
    sampling = request.sampling
    _refuse_unknown(sampling)
    turns: list[dict[str, Any]] = []
    for message in request.messages:
        if message.role != "system":
            role = "assistant" if message.role == "assistant" else "user"
            if turns and turns[-1]["role"] == role:
                turns[-1]["content"] += _content(message)  # several tools' results are one turn
            else:
                turns.append({"role": role, "content": _content(message)})
    body: dict[str, Any] = {
        "model": model,
        "messages": turns,
        "max_tokens": sampling.max_tokens or config.default_max_tokens,
    }
    if system := "\n\n".join(message.text for message in request.messages if message.role == "system"):
        body["system"] = system
    given = request.given
    for name in ("temperature", "top_p", "top_k"):
        value = getattr(sampling, name)
        if name in given if given is not None else value != getattr(SamplingParams(), name):
            body[name] = value
    if sampling.stop:
        body["stop_sequences"] = list(sampling.stop)
    if sampling.grammar is not None:
        schema = json.loads(sampling.grammar.text)
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    if request.tools and request.tool_choice != "none":
        body |= _tools(request)
    return body | ({"stream": True} if request.is_streamed else {})


def _refuse_unknown(sampling: SamplingParams) -> None:
    unknown = {
        "n": sampling.n > 1,
        "temperature above 1": sampling.temperature > 1,
        "logprobs": sampling.logprobs is not None,
        "logit_bias": bool(sampling.logit_bias),
        "min_p": sampling.min_p > 0,
        "presence_penalty": sampling.presence_penalty != 0,
        "frequency_penalty": sampling.frequency_penalty != 0,
        "repetition_penalty": sampling.repetition_penalty != 1,
        "stop_token_ids": bool(sampling.stop_token_ids),
        "ignore_eos": sampling.ignore_eos,
        "response_format": sampling.grammar is not None and sampling.grammar.kind != "json_schema",
    }
    if found := [name for name, is_asked in unknown.items() if is_asked]:
        raise UnfitTargetError(
            f"an Anthropic-shaped model takes no {', '.join(found)}",
            remedy="leave it out, or give the route another target",
            param=found[0],
        )


def _tools(request: ChatRequest) -> dict[str, Any]:
    choice: dict[str, Any] = {"type": {"auto": "auto", "required": "any"}.get(request.tool_choice, "tool")}
    if choice["type"] == "tool":
        choice["name"] = request.tool_choice
    if not request.parallel_tool_calls:
        choice["disable_parallel_tool_use"] = True
    tools = [
        {
            "name": tool.name,
            "description": tool.description,
            "input_schema": dict(tool.parameters) or {"type": "object"},
        }
        for tool in request.tools
    ]
    return {"tools": tools, "tool_choice": choice}


def _content(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [
            {
                "type": "tool_result",
                "tool_use_id": message.tool_call_id,
                "content": message.text,
            }
        ]
    parts: list[dict[str, Any]] = []
    for part in message.content:
        if isinstance(part, ImagePart):
            parts.append({"type": "image", "source": _image(part.url)})
        elif part.text:
            parts.append({"type": "text", "text": part.text})
    parts += [
        {"type": "tool_use", "id": call.call_id, "name": call.name, "input": _input(call.arguments)}
        for call in message.tool_calls
    ]
    return parts


def _input(arguments: str) -> Any:
    try:
        return from_json(arguments or "{}")
    except ValueError:
        raise InvalidRequestError(
            "a tool call's arguments are no JSON", remedy="send them as the model gave them", param="messages"
        ) from None


def _image(url: str) -> dict[str, Any]:
    if url.startswith("data:"):
        kind, _, data = url.removeprefix("data:").partition(",")
        return {"type": "base64", "media_type": kind.removesuffix(";base64"), "data": data}
    if urlsplit(url).scheme not in ("http", "https"):
        raise InvalidRequestError("an image is neither data: nor http(s):", param="messages")
    return {"type": "url", "url": url}


class ReplyReader:
    """Puts events together from Anthropic's, or from one whole answer. There is one choice, 0."""

    def __init__(self, provider: str) -> None:
        self.usage: Usage | None = None
        self.made_by: dict[str, str] = {}
        """What the upstream says of itself: the model it took, its id of the answer."""
        self.is_complete = False
        self._provider = provider
        self._call: dict[str, str] | None = None
        self._num_calls = 0
        self._end: ChoiceEnd | None = None
        self._tokens = {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0}
        self._tokens["cache_creation_input_tokens"] = 0

    @property
    def num_ended(self) -> int:
        return int(self.is_complete)

    def read(self, value: dict[str, Any]) -> list[ChatEvent]:
        """The events of one of Anthropic's, or of a whole answer."""
        is_whole = value.get("type") == "message"
        return shaped(self._provider, self._whole(value) if is_whole else self._events(value))

    def _whole(self, value: dict[str, Any]) -> Iterator[ChatEvent]:
        self._note(value)
        for block in value["content"]:
            if block["type"] == "text":
                yield TextDelta(0, str(block["text"]))
            elif block["type"] == "tool_use":
                yield self._called(str(block["id"]), str(block["name"]), json.dumps(block["input"]))
        self._end = _ending(value)
        yield from self._finish()

    def _events(self, value: dict[str, Any]) -> Iterator[ChatEvent]:
        kind = value.get("type")
        if kind == "message_start":
            self._note(value["message"])
        elif kind == "content_block_start":
            block = value["content_block"]
            if block["type"] == "tool_use":
                self._call = {"id": str(block["id"]), "name": str(block["name"]), "arguments": ""}
            elif block["type"] == "text" and block.get("text"):
                yield TextDelta(0, str(block["text"]))
        elif kind == "content_block_delta":
            delta = value["delta"]
            if delta["type"] == "text_delta":
                yield TextDelta(0, str(delta["text"]))
            elif delta["type"] == "input_json_delta" and self._call is not None:
                self._call["arguments"] += delta["partial_json"]
        elif kind == "content_block_stop" and self._call is not None:
            yield self._called(self._call["id"], self._call["name"], self._call["arguments"] or "{}")
            self._call = None
        elif kind == "message_delta":
            self._count(value.get("usage") or {})
            if value["delta"].get("stop_reason"):
                self._end = _ending(value["delta"])
        elif kind == "message_stop":
            yield from self._finish()

    def _called(self, call_id: str, name: str, arguments: str) -> ToolCallDelta:
        self._num_calls += 1
        return ToolCallDelta(0, self._num_calls - 1, ToolCall(call_id, name, arguments))

    def _finish(self) -> Iterator[ChatEvent]:
        if self._end is None:
            raise ValueError("it ends without a stop_reason")
        cached = self._tokens["cache_read_input_tokens"]
        made = self._tokens["cache_creation_input_tokens"]
        prompt = self._tokens["input_tokens"] + cached + made
        self.usage = Usage(prompt, self._tokens["output_tokens"], cached)
        self.is_complete = True
        yield self._end

    def _note(self, message: dict[str, Any]) -> None:
        self.made_by = {name: message[name] for name in ("id", "model") if isinstance(message.get(name), str)}
        self._count(message.get("usage") or {})

    def _count(self, usage: dict[str, Any]) -> None:
        for name in self._tokens:
            if usage.get(name) is not None:
                self._tokens[name] = int(usage[name])


def _ending(value: dict[str, Any]) -> ChoiceEnd:
    return ChoiceEnd(0, _REASONS.get(str(value.get("stop_reason")), "stop"), value.get("stop_sequence"))
