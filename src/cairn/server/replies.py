"""What both completion endpoints do around a provider's events: counting, timing, common parts."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cairn.core.chat import ChatEvent, ChoiceEnd, StreamEnd, TextDelta, ToolCallDelta, Usage
from cairn.core.digests import short
from cairn.core.errors import UnavailableError
from cairn.providers.protocol import TextProvider
from cairn.server.metrics import Metrics
from cairn.server.openai_types import (
    ChatCompletionRequest,
    CompletionUsage,
    FileCitation,
    SentenceCheck,
    TextCompletionRequest,
)
from cairn.server.state import Models

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Sources:
    """What choice `index` of a reply rests on, after a search of collections; comes before its end."""

    index: int
    annotations: list[FileCitation]
    sentences: list[SentenceCheck]

    def as_json(self) -> dict[str, Any]:
        """Those fields of a message."""
        return {
            "annotations": [each.model_dump() for each in self.annotations],
            "sentences": [each.model_dump() for each in self.sentences],
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


def usage_json(usage: Usage) -> dict[str, Any]:
    """Token counts in OpenAI's shape."""
    return CompletionUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details={"cached_tokens": usage.cached_tokens},
    ).model_dump()


async def streamed(
    models: Models,
    body: ChatCompletionRequest | TextCompletionRequest,
    begin: Callable[[TextProvider], tuple[AsyncGenerator[E, None], Head]],
    frames: Callable[..., AsyncGenerator[bytes, None]],
) -> AsyncGenerator[bytes, None]:
    """The chunks of an answer; a model that is not in memory is loaded first, while keep-alives go out."""
    async with models.use(body.model) as provider:
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        async with aclosing(frames(*begin(provider), body.n or 1, with_usage=with_usage)) as made:
            async for each in made:
                yield each


async def metered(events: AsyncGenerator[E, None], metrics: Metrics, model: str) -> AsyncGenerator[E, None]:
    """The same events, counted; a choice that was cut off by the server is an error."""
    first_token = metrics.first_token_seconds.labels(model)
    between_tokens = metrics.between_tokens_seconds.labels(model)
    outcome = "aborted"
    last = time.perf_counter()
    has_text = False
    try:
        async for event in events:
            if isinstance(event, TextDelta | ToolCallDelta):
                now = time.perf_counter()
                (between_tokens if has_text else first_token).observe(now - last)
                last, has_text = now, True
            elif isinstance(event, StreamEnd):
                metrics.prompt_tokens.labels(model).inc(event.usage.prompt_tokens)
                metrics.cached_tokens.labels(model).inc(event.usage.cached_tokens)
                metrics.completion_tokens.labels(model).inc(event.usage.completion_tokens)
                outcome = "ok"
            elif isinstance(event, ChoiceEnd) and event.reason == "abort":
                raise UnavailableError("the answer was cut off", remedy="ask again", retry_after=5)
            yield event
    except Exception:
        outcome = "failed"
        raise
    finally:
        metrics.completions.labels(model, outcome).inc()
        await events.aclose()
