"""Request outside, Sequence inside, and what comes back: token ids in, token ids out.

A request of `n` choices becomes `n` sequences. A sequence's tokens are one list: the prompt,
then what was generated; `num_computed_tokens` of them have their keys and values in the cache.
Everything else (prefill, decode, preemption, resumption) is the difference of these two numbers.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, get_args

from cairn.core import CairnError
from cairn.core.chat import FinishReason, SamplingParams
from cairn.engine.adapters import LoadedAdapter
from cairn.engine.constraint import Matcher
from cairn.engine.costs import Pace
from cairn.engine.lookup import Lookup

Drafter = Literal["grammar", "lookup", "model"]
DRAFTERS: tuple[Drafter, ...] = get_args(Drafter)
"""Who guesses tokens ahead: the grammar where it forces them, the sequence's own text, a small model."""


@dataclass(slots=True)
class Timing:
    """When things happened to a request, by `perf_counter_ns`; 0: not yet. Written by the engine's thread."""

    admitted: int = 0
    """Its turn has come: blocks were given to it."""
    first_token: int = 0
    ended: int = 0
    num_preemptions: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to continue, and who asks, which changes when it is served and never what comes out."""

    request_id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    eos_token_ids: tuple[int, ...] = ()
    priority: int = 0
    """Lower is served first."""
    adapter: str = ""
    """Id of a loaded one; empty: none."""
    tenant: str = ""
    """Whose turn and share it takes."""
    weight: float = 1.0
    """How much the tenant gets beside others; above 0."""
    kv_share: float | None = None
    """Part of the KV pool that is the tenant's own; None: by weight among those who are active."""
    timing: Timing | None = field(default=None, compare=False)
    """Gets the times; None: nobody asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenOutput:
    """One more token of choice `index`. The last one of a choice carries `finish_reason`.

    `token_id` is None only when the choice ended without a token (`max_tokens=0`, or aborted).
    """

    request_id: str
    index: int
    token_id: int | None
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()
    finish_reason: FinishReason | None = None
    stop_token_id: int | None = None
    """The end or stop token when that is what ended it; it is also `token_id`."""
    num_cached_tokens: int = 0
    """Prompt tokens whose KV blocks were reused when the request was first admitted."""


@dataclass(frozen=True, slots=True)
class PromptLogprob:
    """A prompt token's log-probability given the tokens before it (None for the first)."""

    token_id: int
    logprob: float | None
    top_logprobs: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class PromptOutput:
    """Log-probabilities of the whole prompt; comes before the first token, once a request."""

    request_id: str
    logprobs: tuple[PromptLogprob, ...]


@dataclass(frozen=True, slots=True)
class FailedOutput:
    """A request that cannot go on; all its choices are gone."""

    request_id: str
    error: CairnError


SequenceOutput = TokenOutput | PromptOutput
StepOutput = SequenceOutput | FailedOutput


class SequenceStatus(Enum):
    """Where a sequence is in its life."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class Sequence:
    """One choice of a request while the engine works on it."""

    def __init__(
        self,
        request: Request,
        *,
        index: int,
        seed: int,
        arrival: int,
        max_len: int,
        matcher: Matcher | None = None,
        adapter: LoadedAdapter | None = None,
    ) -> None:
        self.request = request
        self.index = index
        self.matcher = matcher
        self.adapter = adapter
        self.seed = seed
        self.arrival = arrival
        self.token_ids = list(request.prompt_token_ids)
        self.num_prompt_tokens = len(self.token_ids)
        self.num_computed_tokens = 0
        self.num_cached_tokens: int | None = None
        self.block_table: list[int] = []
        self.block_hashes: list[bytes] = []
        self.num_registered_blocks = 0
        self.status = SequenceStatus.WAITING
        self.is_prompt_finished = False
        self.lookup = Lookup()
        self.paces: dict[Drafter, Pace] = {}
        self.num_draft_tokens = 0
        """Tokens that the draft model has read into these blocks."""
        self.prompt_logprobs = [PromptLogprob(self.token_ids[0], None)]
        max_tokens = request.sampling.max_tokens
        room = max_len - self.num_prompt_tokens
        self.max_new_tokens = room if max_tokens is None else min(max_tokens, room)

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_new_tokens(self) -> int:
        """Tokens generated so far."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_uncomputed_tokens(self) -> int:
        """Tokens that still need their keys and values; 1 while decoding."""
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def is_decoding(self) -> bool:
        """Whether all but the newest generated token are computed."""
        return self.num_computed_tokens >= self.num_prompt_tokens and self.num_uncomputed_tokens == 1

    @property
    def is_finished(self) -> bool:
        return self.status is SequenceStatus.FINISHED

    @property
    def wants_prompt_logprobs(self) -> bool:
        return self.index == 0 and self.request.sampling.prompt_logprobs is not None

    @property
    def prompt_logprobs_done(self) -> bool:
        return len(self.prompt_logprobs) == self.num_prompt_tokens

    @property
    def cache_salt(self) -> bytes:
        """What, besides the tokens before it, a token's keys and values depend on."""
        return b"" if self.adapter is None else self.adapter.adapter.digest.encode()

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """Tokens that end the sequence when they are chosen."""
        sampling = self.request.sampling
        return sampling.stop_token_ids + (() if sampling.ignore_eos else self.request.eos_token_ids)

    def append_token(self, token_id: int) -> tuple[FinishReason | None, int | None]:
        """Add a generated token; the reason it ends the sequence, if it does, and the stop token."""
        self.token_ids.append(token_id)
        if token_id in self.end_token_ids:
            return "stop", token_id
        if self.matcher is not None:
            self.matcher.advance(token_id)
            if self.matcher.is_complete:
                return "stop", None
        if self.num_new_tokens >= self.max_new_tokens:
            return "length", None
        return None, None
