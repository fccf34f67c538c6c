"""What all endpoints that complete text do around a provider's events: counting, timing, common parts."""

import time
from collections.abc import AsyncGenerator, Callable, MutableMapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from cairn.core.chat import (
    ChatEvent,
    ChatRequest,
    ChoiceEnd,
    StreamEnd,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from cairn.core.digests import short
from cairn.core.errors import UnavailableError
from cairn.providers.protocol import CompletionRequest, TextProvider
from cairn.server.metrics import Metrics
from cairn.server.openai_types import CompletionUsage, FileCitation, FileSearchSpec, SearchDone, SentenceCheck
from cairn.server.routing.provider import RoutedProvider
from cairn.server.state import Models, ServerState
from cairn.server.traces.answering import begin_answer
from cairn.server.usage.admission import Counted, Ticket

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Sources:
    """What choice `index` of a reply rests on, after a search of collections; comes before its end."""

    index: int
    annotations: list[FileCitation]
    sentences: list[SentenceCheck]
    search: SearchDone

    def as_json(self) -> dict[str, Any]:
        """Those fields of a message."""
        return {
            "annotations": [each.model_dump() for each in self.annotations],
            "sentences": [each.model_dump() for each in self.sentences],
            "search": self.search.model_dump(),
        }


RepliedEvent = ChatEvent | Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The parts every chunk of an answer repeats."""

    id: str
    object: str
    model: str
    system_fingerprint: str
    created: int = field(default_factory=lambda: int(time.time()))

    def as_json(self) -> dict[str, Any]:
        return {
            name: getattr(self, name) for name in ("id", "object", "created", "model", "system_fingerprint")
        }


def fingerprint(provider: TextProvider) -> str:
    """Names the artifacts that answer: equal fingerprint and seed give equal answers."""
    digests = filter(None, (provider.artifact_digest, provider.adapter_digest))
    return "_".join(("cairn", *map(short, digests)))


def tell_target(provider: TextProvider, headers: MutableMapping[str, str]) -> None:
    """Have the headers of an answer name its target and receipt, once a route knows them."""
    if isinstance(provider, RoutedProvider):
        provider.headers = headers


def ending_json(end: StreamEnd) -> dict[str, Any]:
    """What OpenAI's shape has no place for: receipt, the target that a route chose, the answer it repeats."""
    told = {"receipt": end.receipt_id}
    if end.target:
        told["target"] = end.target
    if end.repeats:
        told["repeats"] = end.repeats
    return told


def usage_json(usage: Usage) -> dict[str, Any]:
    """Token counts in OpenAI's shape."""
    return CompletionUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details={"cached_tokens": usage.cached_tokens},
    ).model_dump()


def logprobs_json(tokens: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """Log-probabilities of generated tokens in OpenAI's shape."""
    return [_token(token) | {"top_logprobs": [_token(each) for each in token.top]} for token in tokens]


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.raw_bytes)}


async def streamed(
    models: Models, model: str, frames: Callable[[TextProvider], AsyncGenerator[bytes, None]]
) -> AsyncGenerator[bytes, None]:
    """The frames of an answer; a model that is not in memory is loaded first, while keep-alives go out."""
    async with models.use(model) as provider, aclosing(frames(provider)) as made:
        async for each in made:
            yield each


def replied(
    state: ServerState,
    admission: Ticket,
    provider: TextProvider,
    chat: ChatRequest,
    search: FileSearchSpec | None = None,
) -> AsyncGenerator[RepliedEvent, None]:
    """The events of a reply to a chat, whichever API asks; those of a search come with what it found."""
    counted = admission.counted()
    chat = replace(chat, meter=counted.tell)
    if search is None:
        answers = state.answers
        events: AsyncGenerator[RepliedEvent, None] = (
            provider.stream(chat) if answers is None else answers.stream(provider, chat, admission.reuse)
        )
    else:
        from cairn.server.file_search import searched  # noqa: PLC0415 - a server may never need it

        events = searched(state, provider, chat, search)
    events = metered(events, state.metrics, provider, counted, chat)
    return events if chat.parallel_tool_calls else _first_call_only(events)


@dataclass(slots=True)
class Reply:
    """A whole reply of one choice: text and calls in their order, and how it ended."""

    pieces: list[str | ToolCall] = field(default_factory=list)
    sources: Sources | None = None
    end: ChoiceEnd | None = None
    usage: Usage | None = None
    receipt_id: str = ""

    def add(self, event: RepliedEvent) -> None:
        """Put the next event in its place."""
        if isinstance(event, TextDelta):
            if self.pieces and isinstance(self.pieces[-1], str):
                self.pieces[-1] += event.text
            else:
                self.pieces.append(event.text)
        elif isinstance(event, ToolCallDelta):
            self.pieces.append(event.call)
        elif isinstance(event, Sources):
            self.sources = event
        elif isinstance(event, ChoiceEnd):
            self.end = event
        else:
            self.usage, self.receipt_id = event.usage, event.receipt_id


async def whole_reply(events: AsyncGenerator[RepliedEvent, None]) -> Reply:
    """Events as one reply."""
    reply = Reply()
    async with aclosing(events):
        async for event in events:
            reply.add(event)
    return reply


async def _first_call_only(events: AsyncGenerator[RepliedEvent, None]) -> AsyncGenerator[RepliedEvent, None]:
    async with aclosing(events):
        async for event in events:
            if not (isinstance(event, ToolCallDelta) and event.position > 0):
                yield event


async def metered(
    events: AsyncGenerator[E, None],
    metrics: Metrics,
    provider: TextProvider,
    counted: Counted,
    request: ChatRequest | CompletionRequest,
) -> AsyncGenerator[E, None]:
    """The same events, counted and within a span; a choice that was cut off by the server is an error."""
    answering = begin_answer(provider, request)
    counted.target = model = provider.name
    first_token = metrics.first_token_seconds.labels(model)
    between_tokens = metrics.between_tokens_seconds.labels(model)
    last = time.perf_counter()
    has_text = False
    try:
        with answering.span.active():
            event = await anext(events, None)
        while event is not None:
            if isinstance(event, TextDelta | ToolCallDelta):
                now = time.perf_counter()
                (between_tokens if has_text else first_token).observe(now - last)
                last, has_text = now, True
                counted.piece(now)
            elif isinstance(event, StreamEnd):
                metrics.prompt_tokens.labels(model).inc(event.usage.prompt_tokens)
                metrics.cached_tokens.labels(model).inc(event.usage.cached_tokens)
                metrics.completion_tokens.labels(model).inc(event.usage.completion_tokens)
                counted.target = event.target or model
                counted.receipt_id = event.receipt_id
                counted.end(event.usage, is_repeat=bool(event.repeats))
                answering.end(event)
            elif isinstance(event, ChoiceEnd) and event.reason == "abort":
                raise UnavailableError("the answer was cut off", remedy="ask again", retry_after=5)
            if answering.span:
                answering.see(event)
            yield event
            event = await anext(events, None)
    except Exception as error:
        counted.outcome = "failed"
        answering.fail(error)
        raise
    finally:
        metrics.completions.labels(model, counted.outcome).inc()
        await events.aclose()
        answering.close(counted.outcome)
