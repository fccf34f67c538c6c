"""OpenAI's shape: requests out, chunks and whole answers in.

Only what a request says is sent, so that an upstream keeps its own defaults. Fields that vLLM and Cairn know
and OpenAI does not are sent where they are used, and refused there by name.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cairn.core.chat import (
    ChatEvent,
    ChatRequest,
    ChoiceEnd,
    FinishReason,
    ImagePart,
    Message,
    SamplingParams,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from cairn.core.grammar import Grammar
from cairn.providers.protocol import CompletionRequest
from cairn.providers.remote.config import ProviderConfig
from cairn.providers.remote.events import shaped

_NEUTRAL = SamplingParams()
_PLAIN = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "top_k",
    "min_p",
    "repetition_penalty",
    "ignore_eos",
)
_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "abort": "abort",
}
_UNKNOWN_TOKEN = -1


def chat_body(request: ChatRequest, model: str, config: ProviderConfig) -> dict[str, Any]:
    """A conversation as `POST /chat/completions` takes it."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
    }
    body |= _sampling(request.sampling, request.given, config)
    if request.sampling.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": request.sampling.logprobs}
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.parameters),
                },
            }
            for tool in request.tools
        ]
        body["tool_choice"] = request.tool_choice
        if request.tool_choice not in ("auto", "none", "required"):
            body["tool_choice"] = {"type": "function", "function": {"name": request.tool_choice}}
        if not request.parallel_tool_calls:
            body["parallel_tool_calls"] = False
    if request.template_options:
        options = dict(request.template_options)
        if (effort := options.pop("reasoning_effort", None)) is not None:
            body["reasoning_effort"] = effort
        if options:
            body["chat_template_kwargs"] = options
    return body | _streamed(request.is_streamed)


def completion_body(request: CompletionRequest, model: str, config: ProviderConfig) -> dict[str, Any]:
    """A plain prompt as `POST /completions` takes it."""
    prompt = request.prompt if isinstance(request.prompt, str) else list(request.prompt)
    body = {"model": model, "prompt": prompt} | _sampling(request.sampling, request.given, config)
    if (bound := body.pop("max_completion_tokens", None)) is not None:
        body["max_tokens"] = bound
    if request.sampling.logprobs is not None:
        body["logprobs"] = request.sampling.logprobs
    return body | _streamed(request.is_streamed)


def _streamed(is_streamed: bool) -> dict[str, Any]:
    return {"stream": True, "stream_options": {"include_usage": True}} if is_streamed else {}


def _sampling(
    sampling: SamplingParams, given: frozenset[str] | None, config: ProviderConfig
) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name in _PLAIN:
        value = getattr(sampling, name)
        if name in given if given is not None else value != getattr(_NEUTRAL, name):
            body[name] = value
    if sampling.max_tokens is not None:
        body[config.max_tokens_field] = sampling.max_tokens
    if sampling.n != 1:
        body["n"] = sampling.n
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.stop_token_ids:
        body["stop_token_ids"] = list(sampling.stop_token_ids)
    if sampling.logit_bias:
        body["logit_bias"] = {str(token_id): bias for token_id, bias in sampling.logit_bias.items()}
    if sampling.grammar is not None:
        body |= _grammar(sampling.grammar)
    return body


def _grammar(grammar: Grammar) -> dict[str, Any]:
    if grammar.kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if grammar.kind == "json_schema":
        schema = {"name": "reply", "schema": json.loads(grammar.text), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    if grammar.kind == "choice":
        return {"structured_outputs": {"choice": json.loads(grammar.text)}}
    return {"structured_outputs": {"grammar" if grammar.kind == "ebnf" else "regex": grammar.text}}


def _message(message: Message) -> dict[str, Any]:
    has_image = any(isinstance(part, ImagePart) for part in message.content)
    content: Any = message.text
    if has_image:
        content = [
            {"type": "image_url", "image_url": {"url": part.url}}
            if isinstance(part, ImagePart)
            else {"type": "text", "text": part.text}
            for part in message.content
        ]
    found: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        found["content"] = content or None
        found["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        found["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        found["name"] = message.name
    return found


class ReplyReader:
    """Puts events together from chunks, or from one whole answer: a choice at a time, calls when complete."""

    def __init__(self, provider: str) -> None:
        self.usage: Usage | None = None
        self.made_by: dict[str, str] = {}
        """What the upstream says of itself: the model it took, its fingerprint, its id of the answer."""
        self._provider = provider
        self._open: set[int] = set()
        self._ended: set[int] = set()
        self._calls: dict[int, dict[int, dict[str, str]]] = {}
        self._num_calls: dict[int, int] = {}

    @property
    def is_complete(self) -> bool:
        """Whether every choice that began has ended."""
        return bool(self._ended) and not self._open

    @property
    def num_ended(self) -> int:
        return len(self._ended)

    def read(self, value: dict[str, Any]) -> list[ChatEvent]:
        """The events of a chunk, or of a whole answer."""
        return shaped(self._provider, self._events(value))

    def _events(self, value: dict[str, Any]) -> Iterator[ChatEvent]:
        if usage := value.get("usage"):
            self.usage = _usage(usage)
        for name in ("id", "model", "system_fingerprint"):
            if name not in self.made_by and isinstance(value.get(name), str):
                self.made_by[name] = value[name]
        for choice in value.get("choices", ()):
            index = int(choice.get("index") or 0)
            if index in self._ended:
                continue
            self._open.add(index)
            delta = choice.get("delta") or choice.get("message") or {}
            text = choice["text"] if "text" in choice else delta.get("content") or delta.get("refusal")
            logprobs = _logprobs(choice.get("logprobs"))
            if text or logprobs:
                yield TextDelta(index, text or "", logprobs)
            for place, call in enumerate(delta.get("tool_calls") or ()):
                yield from self._call(index, int(call.get("index", place)), call)
            if reason := choice.get("finish_reason"):
                yield from self._end(index, str(reason), choice.get("stop_reason"))

    def _call(self, index: int, position: int, call: dict[str, Any]) -> Iterator[ChatEvent]:
        if position not in self._calls.get(index, {}):
            yield from self._whole_calls(index)  # the next one has begun
            self._calls[index] = {position: {"id": "", "name": "", "arguments": ""}}
        parts, function = self._calls[index][position], call.get("function") or {}
        parts["id"] = parts["id"] or call.get("id") or ""
        parts["name"] += function.get("name") or ""
        parts["arguments"] += function.get("arguments") or ""

    def _whole_calls(self, index: int) -> Iterator[ChatEvent]:
        for parts in self._calls.pop(index, {}).values():
            place = self._num_calls.get(index, 0)
            self._num_calls[index] = place + 1
            call = ToolCall(parts["id"] or f"call_{index}_{place}", parts["name"], parts["arguments"] or "{}")
            yield ToolCallDelta(index, place, call)

    def _end(self, index: int, reason: str, stop: Any) -> Iterator[ChatEvent]:
        yield from self._whole_calls(index)
        self._open.discard(index)
        self._ended.add(index)
        yield ChoiceEnd(index, _REASONS.get(reason, "stop"), stop if isinstance(stop, str | int) else None)


def _usage(value: dict[str, Any]) -> Usage:
    details = value.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=int(value.get("prompt_tokens") or 0),
        completion_tokens=int(value.get("completion_tokens") or 0),
        cached_tokens=int(details.get("cached_tokens") or 0),
    )


def _logprobs(value: Any) -> tuple[TokenLogprob, ...]:
    """Chat's list of tokens, or a plain completion's lists."""
    if not value:
        return ()
    if "content" in value:
        return tuple(
            _token(each, tuple(_token(other) for other in each.get("top_logprobs") or ()))
            for each in value["content"] or ()
        )
    tops = value.get("top_logprobs") or [None] * len(value["tokens"])
    return tuple(
        TokenLogprob(
            _UNKNOWN_TOKEN,
            token,
            token.encode(),
            float("nan") if logprob is None else float(logprob),
            tuple(
                TokenLogprob(_UNKNOWN_TOKEN, other, other.encode(), float(each))
                for other, each in (top or {}).items()
            ),
        )
        for token, logprob, top in zip(value["tokens"], value["token_logprobs"], tops, strict=True)
    )


def _token(value: dict[str, Any], top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    token, raw = str(value["token"]), value.get("bytes")
    raw_bytes = bytes(raw) if raw is not None else token.encode()
    return TokenLogprob(_UNKNOWN_TOKEN, token, raw_bytes, float(value["logprob"]), top)
