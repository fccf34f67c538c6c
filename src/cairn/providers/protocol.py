"""What the server asks of a provider beyond chat: plain completion, defaults and load.

In plain completion a prompt, as text or token ids, goes on, and may be echoed with its own log-probabilities.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cairn.core.chat import ChatEvent, ChatRequest, Principal, SamplingParams, TokenLogprob, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """A prompt to continue. `sampling.max_tokens` 0 with `echo` only scores the prompt."""

    model: str
    prompt: str | tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    echo: bool = False
    principal: Principal | None = None
    request_id: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    """What its receipt says beside."""
    given: frozenset[str] | None = None
    """Sampling values that the caller chose, by name; None: all. The others a provider may set."""
    is_streamed: bool = True
    """Whether the reader wants the reply as it is made; otherwise it may come in one piece."""
    meter: Callable[[Usage], None] | None = field(default=None, compare=False)
    """Told once what was computed, also of a reply that was cut off."""


@dataclass(frozen=True, slots=True)
class PromptEcho:
    """The prompt as it was read, before anything is generated.

    With `sampling.prompt_logprobs`, `tokens` has one entry per prompt token; the first one's `logprob` is
    NaN, because nothing precedes it.
    """

    text: str
    tokens: tuple[TokenLogprob, ...]


CompletionEvent = PromptEcho | ChatEvent


@dataclass(frozen=True, slots=True)
class TenantLoad:
    """How much of that is one tenant's, and the tokens computed for it since the model was loaded."""

    tenant: str
    waiting: int
    running: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How busy a provider is."""

    running: int = 0
    waiting: int = 0
    seconds_per_request: float = 0.0
    """How often a request has ended lately, while there were any; 0: not known."""
    blocks_used: int = 0
    blocks_total: int = 0
    tokens_guessed: Mapping[str, int] = field(default_factory=dict)
    """Tokens computed ahead since it was loaded by who guessed them, and how many were the ones to come."""
    tokens_guessed_right: Mapping[str, int] = field(default_factory=dict)
    tenants: tuple[TenantLoad, ...] = ()


class TextProvider(Protocol):
    """A `ChatProvider` that also completes plain prompts and says what it is."""

    @property
    def name(self) -> str:
        """The name it was loaded under."""
        ...

    @property
    def artifact_digest(self) -> str:
        """The artifact that answers; empty for a remote one."""
        ...

    @property
    def adapter_digest(self) -> str:
        """The low-rank adapter that takes part; empty: none."""
        ...

    @property
    def sampling_defaults(self) -> Mapping[str, Any]:
        """Sampling values the model's makers recommend, for what a request leaves open."""
        ...

    @property
    def context_length(self) -> int:
        """Most tokens of a prompt and its reply."""
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of a text."""
        ...

    async def count_prompt(self, request: ChatRequest) -> int:
        """Tokens of what the model is given for a chat, template and tools included."""
        ...

    def models(self) -> tuple[str, ...]:
        """Names this provider answers to."""
        ...

    def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """Events of the reply; closing the iterator aborts the generation."""
        ...

    def complete(self, request: CompletionRequest) -> AsyncGenerator[CompletionEvent, None]:
        """Events of the continuation; closing the iterator aborts the generation."""
        ...

    def load(self) -> Load:
        """How busy it is now."""
        ...
