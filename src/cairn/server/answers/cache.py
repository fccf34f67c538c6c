"""Answers given again: exact repeats of one's own requests and, where set, what means the same.

A model here makes the same tokens from the same artifact, prompt, sampling and seed, whatever else is in the
batch; so a greedy or seeded request needs no second computation. Nobody gets another's answer, and none that
rests on documents is kept: those are asked past this cache. Another artifact under a name is another key.
Every repeat has a receipt of its own, which says what it repeats and replays as the first one does.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Literal

from cairn.core.bounded_cache import BoundedCache
from cairn.core.chat import ChatEvent, ChatRequest, ChoiceEnd, StreamEnd, TextDelta, ToolCallDelta, Usage
from cairn.core.errors import CairnError, InvalidRequestError, NotFoundError
from cairn.engine.runner import FloatArray
from cairn.providers.protocol import TextProvider
from cairn.registry import Registry
from cairn.server.answers.similar import Embed, Similar, digest_of, question_of
from cairn.server.metrics import Metrics
from cairn.telemetry import current

logger = logging.getLogger("cairn.server")

Reuse = Literal["similar", "exact", "off"]
HEADER = "x-cairn-cache"

_EVENT_BYTES = 200
_LOGPROB_BYTES = 400


@dataclass(frozen=True, slots=True)
class _Answer:
    events: Sequence[ChatEvent]
    end: StreamEnd
    good_until: float


def reuse_of(given: str | None) -> Reuse:
    """What a request wants given again, by its header: all there is, exact repeats alone, or nothing."""
    if given in (None, "similar"):
        return "similar"
    if given == "exact":
        return "exact"
    if given == "off":
        return "off"
    raise InvalidRequestError(f"{HEADER} is {given[:40]!r}, allowed: similar, exact, off", param=HEADER)


class AnswerCache:
    """At most `max_bytes` of answers, each for `seconds`, a quarter of it for questions if `similar` is on.

    "deterministic" compares greedy and seeded requests, "all" every one, and gives sampled answers again.
    """

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        *,
        max_bytes: int,
        seconds: float,
        similar: Literal["off", "deterministic", "all"] = "off",
        embed: Embed | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._seconds = seconds
        self._now = now
        self._takes_sampled = similar == "all"
        self._embed = embed if similar != "off" else None
        share = max_bytes // 4 if self._embed is not None else 0
        self._held = BoundedCache[bytes, _Answer](max_bytes - share)
        self._similar = Similar(share)

    async def stream(
        self, provider: TextProvider, chat: ChatRequest, reuse: Reuse = "similar"
    ) -> AsyncGenerator[ChatEvent, None]:
        """As `provider.stream`; from memory where the same, or what means the same, was answered before."""
        key = None if reuse == "off" else _key(provider, chat, takes_sampled=self._takes_sampled)
        found, told = (None if key is None else self._fresh(key)), dict[str, Any]()
        asked = None
        if found is None and key is not None and reuse == "similar":
            asked = await self._asked(provider, chat)
            if asked is not None and (near := self._similar.find(*asked)) is not None:
                found = self._fresh(near.key)
                told = {"similarity": round(near.similarity, 4), "asked": asked[1]}
        if found is not None and await self._has_receipt(found, chat, told):
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
                    if asked is not None:
                        self._similar.add(*asked, key)
                elif key is not None:
                    made.append(event)
                    is_whole = is_whole and not (isinstance(event, ChoiceEnd) and event.reason == "abort")
                yield event

    def _fresh(self, key: bytes) -> _Answer | None:
        found = self._held.get(key)
        return found if found is not None and self._now() < found.good_until else None

    async def _asked(self, provider: TextProvider, chat: ChatRequest) -> tuple[bytes, str, FloatArray] | None:
        """Scope, words and vector of a question; None where it cannot be compared."""
        question = question_of(provider, chat) if self._embed is not None else None
        if question is None or self._embed is None:
            return None
        try:
            vector = await self._embed(question[1])
        except CairnError as error:
            logger.warning("a question cannot be compared with earlier ones: %s", error.sentence)
            return None
        return None if vector is None else (*question, vector)

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
        yield replace(found.end, usage=again, receipt_id=chat.request_id, repeats=found.end.receipt_id)

    async def _has_receipt(self, found: _Answer, chat: ChatRequest, told: dict[str, Any]) -> bool:
        """Whether this repeat has its receipt now; not when the first one's is gone."""

        def save() -> bool:
            try:
                first = self._registry.receipt(found.end.receipt_id)
            except NotFoundError:
                return False
            request = {**first.request, "repeats": first.receipt_id, **told}
            again = replace(
                first,
                receipt_id=chat.request_id,
                created_at=time.time(),
                request=request,
                trace_id=current().trace_id,
            )
            self._registry.save_receipt(again)
            return True

        return await asyncio.to_thread(save)


def _key(provider: TextProvider, chat: ChatRequest, *, takes_sampled: bool) -> bytes | None:
    """What decides an answer; None where something else does too."""
    sampling = chat.sampling
    is_determined = takes_sampled or sampling.temperature == 0 or sampling.seed is not None
    if chat.principal is None or not chat.request_id or not provider.artifact_digest or not is_determined:
        return None
    return digest_of(provider, chat, chat.messages)


def _num_bytes(event: ChatEvent) -> int:
    if isinstance(event, TextDelta):
        tokens = sum(1 + len(token.top) for token in event.logprobs)
        return _EVENT_BYTES + 4 * len(event.text) + _LOGPROB_BYTES * tokens
    return _EVENT_BYTES + (4 * len(event.call.arguments) if isinstance(event, ToolCallDelta) else 0)
