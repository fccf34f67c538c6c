"""Answers that were given before, handed out again: exact repeats of one person's own deterministic requests.

A model here makes the same tokens from the same artifact, prompt, sampling and seed, whatever else is in the
batch; so a greedy or seeded request needs no second computation. Nobody gets another's answer, and none that
rests on documents is kept. Every repeat has a receipt of its own, which replays as the first one does.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from cairn.core.bounded_cache import BoundedCache
from cairn.core.chat import ChatEvent, ChatRequest, ChoiceEnd, StreamEnd, TextDelta, ToolCallDelta, Usage
from cairn.core.errors import NotFoundError
from cairn.providers.protocol import TextProvider
from cairn.registry import Registry
from cairn.server.metrics import Metrics

_EVENT_BYTES = 200
_LOGPROB_BYTES = 400


@dataclass(frozen=True, slots=True)
class _Answer:
    events: Sequence[ChatEvent]
    end: StreamEnd
    good_until: float


class AnswerCache:
    """At most `max_bytes` of answers, each for `seconds`."""

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        *,
        max_bytes: int,
        seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._seconds = seconds
        self._now = now
        self._held = BoundedCache[bytes, _Answer](max_bytes)

    async def stream(self, provider: TextProvider, chat: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """As `provider.stream`; from memory where the same was answered before."""
        key = _key(provider, chat)
        found = self._held.get(key) if key is not None else None
        if found is not None and self._now() < found.good_until and await self._has_receipt(found, chat):
            async with aclosing(self._again(found, provider, chat)) as events:
                async for event in events:
                    yield event
            return
        made: list[ChatEvent] = []
        is_whole = True
        async with aclosing(provider.stream(chat)) as events:
            async for event in events:
                if key is not None and isinstance(event, StreamEnd) and is_whole:
                    answer = _Answer(tuple(made), event, self._now() + self._seconds)
                    self._held.put(key, answer, sum(map(_num_bytes, made)))
                elif key is not None:
                    made.append(event)
                    is_whole = is_whole and not (isinstance(event, ChoiceEnd) and event.reason == "abort")
                yield event

    async def _again(
        self, found: _Answer, provider: TextProvider, chat: ChatRequest
    ) -> AsyncGenerator[ChatEvent, None]:
        usage = found.end.usage
        self._metrics.repeated_answers.labels(provider.name).inc()
        self._metrics.saved_tokens.labels(provider.name).inc(usage.prompt_tokens + usage.completion_tokens)
        if chat.meter is not None:
            chat.meter(Usage(0, 0))
        for event in found.events:
            yield event
        again = replace(usage, cached_tokens=usage.prompt_tokens)
        yield replace(found.end, usage=again, receipt_id=chat.request_id)

    async def _has_receipt(self, found: _Answer, chat: ChatRequest) -> bool:
        """Whether this repeat has its receipt now; not when the first one's is gone."""

        def save() -> bool:
            try:
                first = self._registry.receipt(found.end.receipt_id)
            except NotFoundError:
                return False
            request = {**first.request, "repeats": first.receipt_id}
            again = replace(first, receipt_id=chat.request_id, created_at=time.time(), request=request)
            self._registry.save_receipt(again)
            return True

        return await asyncio.to_thread(save)


def _key(provider: TextProvider, chat: ChatRequest) -> bytes | None:
    """What decides an answer; None where something else does too."""
    sampling = chat.sampling
    is_determined = sampling.temperature == 0 or sampling.seed is not None
    if chat.principal is None or not chat.request_id or not provider.artifact_digest or not is_determined:
        return None
    parts: tuple[Any, ...] = (
        chat.principal.user_id,
        provider.artifact_digest,
        provider.adapter_digest,
        chat.messages,
        sampling,
        chat.tools,
        chat.tool_choice,
        chat.parallel_tool_calls,
        chat.template_options,
    )
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()


def _num_bytes(event: ChatEvent) -> int:
    if isinstance(event, TextDelta):
        tokens = sum(1 + len(token.top) for token in event.logprobs)
        return _EVENT_BYTES + 4 * len(event.text) + _LOGPROB_BYTES * tokens
    return _EVENT_BYTES + (4 * len(event.call.arguments) if isinstance(event, ToolCallDelta) else 0)
