"""`RoutedProvider`: a route as a provider, which asks one target after the other until one begins to answer.

Retries live here and nowhere else. Another target is asked only before the first event went out; what breaks
afterwards is the caller's to know. Every attempt has a receipt of its own; the last one's is the answer's.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from cairn.core.chat import ChatEvent, ChatRequest, StreamEnd, TextDelta
from cairn.core.errors import CairnError, ContextLengthError, OverloadedError, StorageError
from cairn.providers.protocol import CompletionEvent, CompletionRequest, Load, PromptEcho, TextProvider
from cairn.providers.remote.errors import (
    Retry,
    UpstreamError,
    UpstreamOverloadedError,
    UpstreamUnavailableError,
    worth,
)
from cairn.registry import new_receipt_id
from cairn.server.routing.choice import beginning_of, is_in_share, order
from cairn.server.routing.config import RouteConfig, TargetConfig
from cairn.server.routing.difficulty import difficulty, mean_logprob
from cairn.server.routing.plan import Plan
from cairn.server.routing.table import RouteTable
from cairn.server.routing.targets import Lease
from cairn.telemetry import Span

if TYPE_CHECKING:
    from cairn.server.state import Models

logger = logging.getLogger("cairn.server.routing")

R = TypeVar("R", ChatRequest, CompletionRequest)
Call = Callable[[TextProvider, R], AsyncGenerator[CompletionEvent, None]]

TARGET_HEADER = "x-cairn-target"
RECEIPT_HEADER = "x-cairn-receipt"
_UNKNOWN_CONTEXT = 4096
_BYTES_PER_TOKEN = 4
_COPY_SECONDS = 600.0


class NotSureError(UpstreamError):
    """The cheap target's own log-probabilities say that another one should answer."""

    code = "route.not_sure"
    retry: ClassVar[Retry] = "elsewhere"


class RoutedProvider:
    """One route for one request."""

    artifact_digest = adapter_digest = ""

    def __init__(self, table: RouteTable, name: str, route: RouteConfig, models: "Models") -> None:
        self.name = name
        self.sampling_defaults: Mapping[str, Any] = {}  # each target has its own
        self.headers: MutableMapping[str, str] = {}
        """Gets the answer's target and receipt when its first event is there."""
        self._table = table
        self._route = route
        self._models = models

    @property
    def context_length(self) -> int:
        """The least of what its targets are known to read."""
        lengths = [
            self._table.config.providers[target.provider].context_length
            for target in self._route.targets
            if target.provider
        ]
        names = {target.model for target in self._route.targets if not target.provider}
        lengths += [each.context_length for each in self._models.loaded() if each.name in names]
        return min(lengths, default=_UNKNOWN_CONTEXT)

    def count_tokens(self, text: str) -> int:
        """An estimate: the targets' vocabularies differ."""
        return len(text.encode()) // _BYTES_PER_TOKEN + 1

    async def count_prompt(self, request: ChatRequest) -> int:
        """As the first target counts: exact of a model here, an estimate of another server's."""
        try:
            async with self._provider(self._route.targets[0]) as provider:
                return await provider.count_prompt(request)
        except CairnError:
            # It cannot count now; whether the request can be answered is for `stream` to say.
            return sum(self.count_tokens(message.text) for message in request.messages)

    def models(self) -> tuple[str, ...]:
        """Its name."""
        return (self.name,)

    def load(self) -> Load:
        """Requests at its targets."""
        return Load(running=sum(self._outstanding().values()))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """Events of the reply of the first target that begins one."""
        async with aclosing(self._answered(request, _chat, beginning_of(request.messages))) as events:
            async for event in events:
                assert not isinstance(event, PromptEcho), "chats have no echo"
                yield event

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[CompletionEvent, None]:
        """Events of the continuation by the first target that begins one."""
        prompt = request.prompt[:1000]
        beginning = prompt if isinstance(prompt, str) else " ".join(map(str, prompt))
        async with aclosing(self._answered(request, _complete, beginning)) as events:
            async for event in events:
                yield event

    async def _answered(
        self, request: R, call: "Call[R]", beginning: str
    ) -> AsyncGenerator[CompletionEvent, None]:
        self._copy(request, call)
        targets = self._targets(request, beginning)
        now = asyncio.get_running_loop().time()
        plan = Plan(self.name, self._route, targets, self._table.target, now)
        unsure: list[CompletionEvent] = []
        while True:
            try:
                target = await plan.next()
            except CairnError:
                if not unsure:
                    raise
                break  # a reply that is not sure of itself is better than none
            asked = self._asked(request, target, plan.num_attempts)
            attempt = self._attempt(target, asked, call, plan.deadline, plan.num_attempts)
            if self._judges(target):
                attempt = self._sure(attempt, request, unsure)
            async with aclosing(attempt) as events:
                try:
                    event = await anext(events)
                except CairnError as error:
                    plan.failed(target, error)
                    continue
                self.headers.update({TARGET_HEADER: target.name, RECEIPT_HEADER: asked.request_id})
                if target.name != targets[0].name:
                    self._table.metrics.numbers(self.name, target.name).fallbacks.inc()
                yield event
                async for event in events:
                    yield event
                return
        for event in unsure:
            if isinstance(event, StreamEnd):
                self.headers.update({TARGET_HEADER: event.target, RECEIPT_HEADER: event.receipt_id})
        for event in unsure:
            yield event

    def _outstanding(self) -> dict[str, int]:
        names = [target.name for target in self._route.targets]
        return {name: self._table.target(name).outstanding for name in names}

    def _targets(self, request: ChatRequest | CompletionRequest, beginning: str) -> list[TargetConfig]:
        """Who is asked, first to last."""
        user = request.principal.user_id if request.principal else ""
        targets = order(
            self._route,
            self.name,
            key=f"{user}\n{beginning}" if self._route.affinity else str(random.random()),
            user=user,
            outstanding=self._outstanding(),
        )
        cascade = self._route.cascade
        if cascade is None:
            return targets
        cheap = self._route.targets[0].name
        is_hard = (
            cascade.by == "score"
            and isinstance(request, ChatRequest)
            and difficulty(request) >= cascade.threshold
        )
        # Of a hard one the cheap target is the last resort: a simple answer is better than none.
        return sorted(targets, key=lambda target: (target.name == cheap) == is_hard)

    def _judges(self, target: TargetConfig) -> bool:
        """Whether a target's reply is judged by its log-probabilities."""
        cascade = self._route.cascade
        return cascade is not None and cascade.by == "logprob" and target.name == self._route.targets[0].name

    async def _sure(
        self, attempt: AsyncGenerator[CompletionEvent, None], request: R, unsure: list[CompletionEvent]
    ) -> AsyncGenerator[CompletionEvent, None]:
        """The events of an attempt once all are there; `NotSureError`, and they are set aside."""
        assert self._route.cascade is not None, "asked before"
        async with aclosing(attempt):
            events = [event async for event in attempt]
        mean = mean_logprob(events)
        if request.sampling.logprobs is None:
            events = [replace(each, logprobs=()) if isinstance(each, TextDelta) else each for each in events]
        if mean is not None and mean < self._route.cascade.threshold:
            unsure[:] = events
            raise NotSureError(f"mean log-probability {mean:.2f}")
        for event in events:
            yield event

    async def _attempt(
        self, config: TargetConfig, request: R, call: "Call[R]", deadline: float, num_attempts: int = 1
    ) -> AsyncGenerator[CompletionEvent, None]:
        """One request to one target, whose outcome is counted whichever way it ends."""
        loop = asyncio.get_running_loop()
        operation = "chat" if isinstance(request, ChatRequest) else "text_completion"
        lease = self._table.enter(self.name, config, operation, loop.time(), num_attempts=num_attempts)
        assert lease.watch is not None, "the table watches"
        span = lease.watch.span
        if request.record.get("shadow_of"):
            span.set("cairn.shadow", True)
        try:
            async with AsyncExitStack() as stack:
                try:
                    with span.active():
                        async with asyncio.timeout_at(deadline):
                            provider = await stack.enter_async_context(self._provider(config))
                            events = call(provider, _with_defaults(request, provider))
                            await stack.enter_async_context(aclosing(events))
                            event = await anext(events)
                except TimeoutError:
                    raise UpstreamUnavailableError(
                        f"{config.name} did not begin to answer within the deadline of {self.name!r}",
                        remedy="ask again",
                    ) from None
                lease.began(loop.time())
                while not isinstance(event, StreamEnd):
                    yield event
                    event = await anext(events)
            if span:
                _tell_end(span, event)
            lease.succeed()
            yield replace(event, target=config.name)
        except CairnError as error:
            blame(lease, error, loop.time())
            raise
        finally:
            lease.leave()

    @asynccontextmanager
    async def _provider(self, target: TargetConfig) -> AsyncIterator[TextProvider]:
        if target.provider:
            yield self._table.remote(target)
        else:
            async with self._models.use(target.model) as provider:
                yield provider

    def _asked(self, request: R, target: TargetConfig, num_attempts: int) -> R:
        """The request as a target gets it. The first attempt has the receipt that was promised."""
        is_first = num_attempts == 1 and request.request_id
        receipt_id = request.request_id if is_first else new_receipt_id()
        sampling = request.sampling
        if self._judges(target) and sampling.logprobs is None:
            sampling = replace(sampling, logprobs=0)
        record = {**request.record, "target": target.name}
        return replace(request, request_id=receipt_id, sampling=sampling, record=record)

    def _copy(self, request: R, call: "Call[R]") -> None:
        """Send a copy to the shadow target in the background, where there is room for it."""
        shadow, copies = self._route.shadow, self._table.num_copies
        if shadow is None or copies.get(self.name, 0) >= shadow.max_outstanding:
            return
        if not is_in_share(shadow.percent, str(random.random())):
            return
        target = self._table.target(shadow.target.name)
        if not target.breaker.allows(asyncio.get_running_loop().time()):
            return
        record = {**request.record, "target": target.name, "shadow_of": request.request_id}
        # Nobody asked for the copy, so nobody is charged with it.
        asked = replace(request, request_id=new_receipt_id(), record=record, is_streamed=False, meter=None)
        copies[self.name] = copies.get(self.name, 0) + 1
        self._table.keep(asyncio.create_task(self._shadow(shadow.target, asked, call)))

    async def _shadow(self, target: TargetConfig, request: R, call: "Call[R]") -> None:
        deadline = asyncio.get_running_loop().time() + _COPY_SECONDS
        try:
            async with aclosing(self._attempt(target, request, call, deadline)) as events:
                async for _ in events:
                    pass
        except CairnError as error:
            logger.info("a copy for %s failed: %s", target.name, error.message)
        except Exception:
            logger.exception("a copy for %s failed", target.name)
        finally:
            self._table.num_copies[self.name] -= 1


def _chat(provider: TextProvider, request: ChatRequest) -> AsyncGenerator[CompletionEvent, None]:
    return provider.stream(request)


def _complete(provider: TextProvider, request: CompletionRequest) -> AsyncGenerator[CompletionEvent, None]:
    return provider.complete(request)


def _with_defaults(request: R, provider: TextProvider) -> R:
    """What the caller left open, as the model's makers recommend."""
    given = request.given
    if given is None:
        return request
    defaults = {name: value for name, value in provider.sampling_defaults.items() if name not in given}
    return replace(request, sampling=replace(request.sampling, **defaults)) if defaults else request


def _tell_end(span: Span, end: StreamEnd) -> None:
    span.attributes |= {
        "gen_ai.usage.input_tokens": end.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": end.usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": end.usage.cached_tokens,
        "cairn.receipt": end.receipt_id,
    }


def blame(lease: Lease, error: CairnError, now: float) -> None:
    """Count a failure against its target, unless it could not do the request, or the disk was ours."""
    if lease.watch is not None:
        lease.watch.blame(error)
    is_its_own = not isinstance(error, ContextLengthError | StorageError) and error.http_status != 400
    if worth(error) == "no" or not is_its_own:
        lease.leave()
        return
    retry_after = None
    if isinstance(error, UpstreamOverloadedError):
        retry_after = error.retry_after
    elif isinstance(error, OverloadedError):
        retry_after = 0.0  # the queue here, of which nobody asks to be left alone
    lease.fail(now, time.time(), error.message, retry_after=retry_after)
