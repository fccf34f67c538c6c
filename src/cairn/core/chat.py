"""Messages, sampling parameters and the chat protocol: what everything above the engine speaks.

A `ChatProvider` turns a `ChatRequest` into a stream of `ChatEvent`s. The same protocol is
met by the local engine and by remote servers, so whoever consumes it cannot tell them apart.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from cairn.core.errors import InvalidRequestError
from cairn.core.grammar import Grammar

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "abort"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text in a message."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image in a message, as a data URL or a file digest."""

    url: str


ContentPart = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call a model asked for. `arguments` is the JSON text exactly as generated."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool a model may call; `parameters` is a JSON schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: tuple[ContentPart, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


def text_message(role: Role, text: str) -> Message:
    """A message of one text part."""
    return Message(role, (TextPart(text),))


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen and when to stop. Names and ranges as in OpenAI and vLLM."""

    max_tokens: int | None = None
    """Most tokens to generate; None: as many as the context leaves."""
    temperature: float = 1.0
    """0 is greedy."""
    top_k: int = 0
    """Keep the k likeliest; 0: all."""
    top_p: float = 1.0
    """Keep the smallest set whose probability reaches this (Holtzman et al. 2020)."""
    min_p: float = 0.0
    """Drop tokens less likely than this share of the likeliest (Nguyen et al. 2024)."""
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of tokens seen in prompt or output (CTRL, 2019)."""
    presence_penalty: float = 0.0
    """Subtracted once from the logit of every token already generated."""
    frequency_penalty: float = 0.0
    """Subtracted per earlier occurrence from the logit of every token already generated."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of these token ids, -100 to 100."""
    seed: int | None = None
    """Equal seeds give equal samples, whatever else is in the batch."""
    stop: tuple[str, ...] = ()
    """Strings that end the text; they are not part of it."""
    stop_token_ids: tuple[int, ...] = ()
    """Token ids that end the sequence, besides the model's own."""
    ignore_eos: bool = False
    """Go on past the model's end token (benchmarks)."""
    n: int = 1
    """Samples per prompt."""
    logprobs: int | None = None
    """Log-probabilities of this many alternatives per generated token; None: none."""
    prompt_logprobs: int | None = None
    """The same for the prompt's tokens."""
    grammar: Grammar | None = None
    """What the whole reply must be; None: anything."""

    def __post_init__(self) -> None:
        _require(self.max_tokens is None or self.max_tokens >= 0, "max_tokens", self.max_tokens, "0 or more")
        _require(0 <= self.temperature <= 100, "temperature", self.temperature, "0 to 100")
        _require(self.top_k >= 0, "top_k", self.top_k, "0 or more")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0, at most 1")
        _require(0 <= self.min_p <= 1, "min_p", self.min_p, "0 to 1")
        _require(
            0 < self.repetition_penalty <= 100,
            "repetition_penalty",
            self.repetition_penalty,
            "above 0, at most 100",
        )
        for name in ("presence_penalty", "frequency_penalty"):
            _require(-2 <= getattr(self, name) <= 2, name, getattr(self, name), "-2 to 2")
        for token_id, bias in self.logit_bias.items():
            _require(
                token_id >= 0 and -100 <= bias <= 100,
                "logit_bias",
                {token_id: bias},
                "ids from 0, values -100 to 100",
            )
        _require(1 <= self.n <= 128, "n", self.n, "1 to 128")
        _require(len(self.stop) <= 16 and all(self.stop), "stop", self.stop, "at most 16 strings, none empty")
        for name in ("logprobs", "prompt_logprobs"):
            value = getattr(self, name)
            _require(value is None or 0 <= value <= 20, name, value, "0 to 20")


def _require(holds: bool, param: str, got: object, allowed: str) -> None:
    # `holds` is False for NaN too, because every comparison above is.
    if not holds:
        raise InvalidRequestError(f"{param} is {got!r}, allowed: {allowed}", param=param)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: decides what may be seen and what it counts against."""

    user_id: str
    groups: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    key_id: str = ""
    """The key that is used; empty in a browser's session."""
    scopes: frozenset[str] | None = None
    """Permissions that the key is narrowed to; None: all that the roles have."""
    models: frozenset[str] | None = None
    """Names of models that the key is for; None: all."""
    is_background: bool = False
    """Whether nobody waits for the answer: it is made behind those that somebody waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A conversation to continue."""

    model: str
    messages: tuple[Message, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: str = "auto"
    """`auto`, `none`, `required`, or the name of a tool."""
    parallel_tool_calls: bool = True
    """Whether a reply that is forced to call may hold several calls."""
    template_options: Mapping[str, Any] = field(default_factory=dict)
    """Extra variables for the chat template."""
    principal: Principal | None = None
    request_id: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    """What its receipt says of it in the place of its own messages."""
    given: frozenset[str] | None = None
    """Sampling values that the caller chose, by name; None: all. The others a provider may set."""
    is_streamed: bool = True
    """Whether the reader wants the reply as it is made; otherwise it may come in one piece."""
    meter: "Callable[[Usage], None] | None" = field(default=None, compare=False)
    """Told once what was computed, also of a reply that was cut off."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's log-probability and those of the likeliest alternatives at that place."""

    token_id: int
    token: str
    raw_bytes: bytes
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of choice `index`; always whole characters."""

    index: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A whole tool call of choice `index`; `position` counts the calls of that choice from 0."""

    index: int
    position: int
    call: ToolCall


@dataclass(frozen=True, slots=True)
class ChoiceEnd:
    """Choice `index` is complete."""

    index: int
    reason: FinishReason
    stop: str | int | None = None
    """The stop string or token id that ended it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens in and out; `cached_tokens` of the prompt came from the prefix cache."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The last event of a stream. `receipt_id` names the stored receipt."""

    usage: Usage
    receipt_id: str = ""
    target: str = ""
    """Which target of a route answered; empty without one."""
    repeats: str = ""
    """The receipt of the answer that this one is given again from; empty of one that was computed."""


ChatEvent = TextDelta | ToolCallDelta | ChoiceEnd | StreamEnd


class ChatProvider(Protocol):
    """Who answers: the local engine, or another server."""

    def models(self) -> tuple[str, ...]:
        """Names this provider answers to."""
        ...

    def stream(self, request: ChatRequest) -> AsyncIterator[ChatEvent]:
        """Events of the reply; closing the iterator aborts the generation."""
        ...
