"""The shapes of Anthropic's messages, as far as they are served. What is unknown is refused, not ignored.

Accepted and without effect, because they concern Anthropic's own service: `cache_control` (equal beginnings
of prompts are kept anyway), `inference_geo`, `service_tier`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cairn.server.body import RequestBody, Strict
from cairn.server.openai_types import CairnInfo

ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]


class CacheControl(Strict):
    """Where a prompt's beginning should be kept; it is kept without asking."""

    type: Literal["ephemeral"]
    ttl: str | None = None


class _Block(BaseModel):
    """A piece of a turn. Clients send back what they got, with all its nulls: what is beside is ignored."""

    model_config = ConfigDict(extra="ignore")


class TextBlock(_Block):
    """Text."""

    type: Literal["text"]
    text: str


class Base64Source(Strict):
    """An image in the request itself."""

    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class UrlSource(Strict):
    """An image elsewhere."""

    type: Literal["url"]
    url: str


class ImageBlock(_Block):
    """An image."""

    type: Literal["image"]
    source: Annotated[Base64Source | UrlSource, Field(discriminator="type")]


class ToolUseBlock(_Block):
    """A call that the model made."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlock(_Block):
    """What a call gave."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[Annotated[TextBlock | ImageBlock, Field(discriminator="type")]] | None = None
    is_error: bool | None = None


class ThinkingBlock(_Block):
    """What another model thought aloud; it is left out."""

    type: Literal["thinking", "redacted_thinking"]


Block = Annotated[
    TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock, Field(discriminator="type")
]


class Turn(Strict):
    """A turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Tool(BaseModel):
    """A tool offered to the model."""

    model_config = ConfigDict(
        extra="ignore"
    )  # the fields of Anthropic's own tools, which are refused by type

    name: ToolName
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class ToolChoice(Strict):
    """Whether a tool is called: as the model likes (`auto`), `any` of them, the one of a name, or none."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class Thinking(BaseModel):
    """Thinking aloud, which no model here does: `adaptive` leaves it out, `enabled` is refused."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]


class JsonFormat(Strict):
    """A JSON schema for the reply."""

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Strict):
    """The form of the reply; `effort` is handed to the chat template."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class RequestMetadata(Strict):
    """On whose behalf the caller asks; the receipt keeps it."""

    user_id: str | None = None


class MessagesPrompt(RequestBody):
    """`POST /v1/messages/count_tokens`, and what `POST /v1/messages` shares with it."""

    model: str
    messages: Annotated[list[Turn], Field(min_length=1)]
    cache_control: CacheControl | None = None
    output_config: OutputConfig | None = None
    system: str | list[TextBlock] | None = None
    thinking: Thinking | None = None
    tool_choice: ToolChoice | None = None
    tools: list[Tool] | None = None


class MessagesRequest(MessagesPrompt):
    """`POST /v1/messages`."""

    max_tokens: Annotated[int, Field(ge=0, strict=True)]
    inference_geo: str | None = None
    metadata: RequestMetadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None


class TextReply(BaseModel):
    """Text of a reply."""

    type: Literal["text"] = "text"
    text: str
    citations: None = None


class ToolUseReply(BaseModel):
    """A call in a reply."""

    type: Literal["tool_use"] = "tool_use"
    id: str
    name: str
    input: dict[str, Any]


StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]


class MessageUsage(BaseModel):
    """Tokens in and out; those read from the prefix cache are not among `input_tokens`."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int


class MessageReply(BaseModel):
    """The answer of `POST /v1/messages`."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[Annotated[TextReply | ToolUseReply, Field(discriminator="type")]]
    stop_reason: StopReason
    stop_sequence: str | None
    usage: MessageUsage
    cairn: CairnInfo


class TokenCount(BaseModel):
    """The answer of `POST /v1/messages/count_tokens`."""

    input_tokens: int
