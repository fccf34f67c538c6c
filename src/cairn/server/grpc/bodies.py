"""Messages as the bodies of HTTP requests, and answers as messages; most fields are the same in both."""

import base64
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message

from cairn.server.grpc import api_pb2 as api

M = TypeVar("M", bound=Message)

_TOOL_CHOICES = ("auto", "none", "required")


def body_of(message: Message) -> dict[str, Any]:
    """The fields that a message gives."""
    found: dict[str, Any] = _whole(json_format.MessageToDict(message, preserving_proto_field_name=True))
    if "seed" in found:
        found["seed"] = int(found["seed"])  # 64 bits are text in protobuf's JSON
    return found


def message_of(kind: type[M], value: Mapping[str, Any]) -> M:
    """A JSON answer as a message; what the message has no field for is left out."""
    made: M = kind()
    json_format.ParseDict(value, made, ignore_unknown_fields=True)
    return made


def chat_body(message: api.ChatRequest) -> dict[str, Any]:
    """The body of `/v1/chat/completions`."""
    found = body_of(message)
    for each in found.get("messages", ()):
        if parts := each.pop("parts", None):
            each["content"] = parts
    choice = found.get("tool_choice")
    if choice is not None and choice not in _TOOL_CHOICES:
        found["tool_choice"] = {"type": "function", "function": {"name": choice}}
    return found


def completion_body(message: api.CompletionRequest) -> dict[str, Any]:
    """The body of `/v1/completions`."""
    return _with_token_ids(body_of(message), "prompt")


def embeddings_body(message: api.EmbeddingsRequest) -> dict[str, Any]:
    """The body of `/v1/embeddings`; vectors travel as their bytes."""
    return {**_with_token_ids(body_of(message), "input"), "encoding_format": "base64"}


def completion_reply(value: Mapping[str, Any]) -> api.CompletionReply:
    """An answer of `/v1/completions`, each token with what was in four lists."""
    choices = []
    for choice in value["choices"]:
        lists = choice.get("logprobs") or {}
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        columns = zip(*(lists.get(name, ()) for name in names), strict=True)
        fields = ("token", "logprob", "top_logprobs", "text_offset")
        choices.append({**choice, "tokens": [dict(zip(fields, column, strict=True)) for column in columns]})
    return message_of(api.CompletionReply, {**value, "choices": choices})


def embeddings_reply(value: Mapping[str, Any]) -> api.EmbeddingsReply:
    """An answer of `/v1/embeddings`."""
    reply = message_of(api.EmbeddingsReply, {"model": value["model"], "usage": value["usage"]})
    for each in value["data"]:
        vector = np.frombuffer(base64.b64decode(each["embedding"]), "<f4")
        reply.data.add(index=each["index"]).embedding.extend(vector.tolist())
    return reply


def _with_token_ids(body: dict[str, Any], name: str) -> dict[str, Any]:
    """Texts and token ids under the one name that HTTP has for them; given both, it refuses them."""
    given = body.pop(f"{name}_tokens", None)
    ids = [each.get("ids", []) for each in given or ()]
    return {**body, name: [*body.get(name, ()), *ids]}


def _whole(value: Any) -> Any:
    """A Struct has no integers; schemas want them."""
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
