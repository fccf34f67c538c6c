"""What every request that is answered passes: admission before, settlement after.

A route depends on `Admission` and calls `admit` with what the request may take, before anything of the
answer is sent. The answer's headers are what `admit` returns. What the answer took is told by `counted`, one
for each stream of a provider, or by `add`. The dependency ends after the last byte: then the request has its
row in the ledger, whatever became of it, and what it had reserved is put right.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Depends, Request

from cairn.core.chat import Principal, Usage
from cairn.core.errors import CairnError
from cairn.core.ids import random_hex
from cairn.server.answers.cache import HEADER as CACHE_HEADER
from cairn.server.answers.cache import Reuse, reuse_of
from cairn.server.auth import Caller
from cairn.server.identity.permissions import require_model
from cairn.server.state import state_of
from cairn.server.usage.budgets import Reservation
from cairn.server.usage.errors import RateLimitedError
from cairn.server.usage.ledger import Entry
from cairn.server.usage.metering import Metering
from cairn.server.usage.prices import Tariff
from cairn.server.usage.promise import check_promise, deadline_of
from cairn.server.usage.rules import Applied
from cairn.telemetry import current
from cairn.telemetry.spans import error_type

Outcome = Literal["ok", "aborted", "failed", "refused"]
_NOTHING = Usage(0, 0)
_LONGEST_NAME = 200
_CHARACTERS_PER_TOKEN = 4


class Counted:
    """What one stream of a provider took, as it goes on."""

    def __init__(self, prompt_tokens: int, on_end: Callable[[], None]) -> None:
        self.target = ""
        self.receipt_id = ""
        """Of the answer: another one than was promised where a route's first target has failed."""
        self.first_at: float | None = None
        self.outcome: Outcome = "aborted"
        self._prompt_tokens = prompt_tokens
        self._on_end = on_end
        self._told: Usage | None = None
        self._ended: Usage | None = None
        self.saved = _NOTHING
        """What an answer that was given again would have taken."""
        self._num_pieces = 0

    def tell(self, usage: Usage) -> None:
        """What the provider says that it computed; of several times the sum."""
        self._told = usage if self._told is None else self._told + usage

    def piece(self, now: float) -> None:
        """A piece of the answer has come."""
        self._num_pieces += 1
        if self.first_at is None:
            self.first_at = now

    def end(self, usage: Usage, *, is_repeat: bool = False) -> None:
        """The stream has ended as it should."""
        self._ended, self.outcome = usage, "ok"
        if is_repeat:
            self.saved = Usage(usage.prompt_tokens, usage.completion_tokens)
        self._on_end()

    @property
    def usage(self) -> Usage:
        """As the provider says; of one that says nothing and was cut off, by its pieces."""
        if self._told is not None:
            return self._told
        if self._ended is not None:
            return self._ended
        return Usage(self._prompt_tokens, self._num_pieces) if self._num_pieces else _NOTHING


class Ticket:
    """One request on its way through."""

    def __init__(
        self,
        metering: Metering,
        caller: Principal,
        endpoint: str,
        request_id: str,
        *,
        check_promise: Callable[[str], None] = lambda _model: None,
    ) -> None:
        self._metering = metering
        self._caller = caller
        self._endpoint = endpoint
        self._request_id = request_id
        self._check_promise = check_promise
        self._at, self._started = metering.now(), time.perf_counter()
        self.reuse: Reuse = "similar"
        """Which earlier answers may be given again."""
        self._model = ""
        self._receipt_id = ""
        self._tariff = Tariff()
        self._estimate = _NOTHING
        self._places: Sequence[Applied] = ()
        self._reserved: Any = None
        self._reservation: Reservation | None = None
        self._counted: list[Counted] = []
        self._error: BaseException | None = None
        self._is_admitted = False

    async def admit(
        self,
        model: str,
        *,
        prompt_tokens: int,
        completion_tokens: int | None = 0,
        num_choices: int = 1,
        receipt_id: str = "",
    ) -> dict[str, str]:
        """Let a request of a caller who may use the model in, or raise why not; the headers of its answer.

        `completion_tokens` None: as many as it likes.
        """
        with current().child("limits") as span:
            span.note(model=model[:_LONGEST_NAME], receipt_id=receipt_id)
            return await self._admit(model, prompt_tokens, completion_tokens, num_choices, receipt_id)

    async def _admit(
        self,
        model: str,
        prompt_tokens: int,
        completion_tokens: int | None,
        num_choices: int,
        receipt_id: str,
    ) -> dict[str, str]:
        require_model(self._caller, model)
        metering = self._metering
        self._model, self._receipt_id = model[:_LONGEST_NAME], receipt_id
        metering.check_ledger()
        await metering.refresh()
        self._tariff = metering.prices.of(model)
        self._estimate = metering.estimate(prompt_tokens, completion_tokens, num_choices)
        self._check_promise(model)
        headers: dict[str, str] = {}
        if applied := metering.rules.applied(self._caller, model):
            headers = await self._reserve(applied)
        self._is_admitted = True
        return headers

    def counted(self) -> Counted:
        """Where a stream of a provider tells what it takes."""
        counted = Counted(self._estimate.prompt_tokens, self._note)
        self._counted.append(counted)
        return counted

    def add(self, usage: Usage, target: str) -> None:
        """Count what was computed in one piece."""
        counted = self.counted()
        counted.target = target
        counted.end(usage)

    def fail(self, error: BaseException) -> None:
        """Remember what the request ended with."""
        self._error = error
        if isinstance(error, Exception):
            current().note(error=error_type(error))

    async def close(self) -> None:
        """Book what was used, and put right what was reserved."""
        if not self._is_admitted and not isinstance(self._error, RateLimitedError):
            return  # it was wrong before it came to any use
        metering, entry = self._metering, self._entry()
        metering.ledger.put(entry)
        self._counted = []  # they know this ticket: no cycle is left behind
        if self._reservation is not None:
            metering.budgets.settle(self._reservation, entry.cost)
        metering.leave(self._places)
        if self._reserved is not None:
            total = entry.prompt_tokens + entry.completion_tokens
            costs = [1 if each.applied.rule.metric == "requests" else total for each in self._reserved.claims]
            await asyncio.shield(metering.windows.settle(self._reserved, costs))

    async def _reserve(self, applied: Sequence[Applied]) -> dict[str, str]:
        """All that the rules ask for, or nothing."""
        metering, estimate = self._metering, self._estimate
        places = [each for each in applied if each.rule.metric == "concurrent"]
        money = [each for each in applied if each.rule.metric == "money"]
        windowed = [each for each in applied if each.rule.metric in ("requests", "tokens")]
        headers: dict[str, str] = {}
        metering.enter(places)
        self._places = places
        try:
            if windowed:
                headers = await self._reserve_windows(windowed)
            if money:
                cost = self._tariff.cost(estimate)
                self._reservation = await metering.budgets.reserve(money, cost, self._at)
                if warnings := self._reservation.warnings:
                    headers["x-cairn-budget-warning"] = _header_text("; ".join(warnings))
        except BaseException:
            metering.leave(places)
            self._places = ()
            if self._reserved is not None:
                reserved, self._reserved = self._reserved, None
                await asyncio.shield(metering.windows.settle(reserved, [0] * len(reserved.claims)))
            raise
        return headers

    async def _reserve_windows(self, applied: Sequence[Applied]) -> dict[str, str]:
        from cairn.server.usage.windows import Claim, rate_headers  # noqa: PLC0415 - as in `Metering.windows`

        total = self._estimate.prompt_tokens + self._estimate.completion_tokens
        claims = [Claim(each, 1 if each.rule.metric == "requests" else total) for each in applied]
        self._reserved = await self._metering.windows.reserve(claims)
        return rate_headers(self._reserved.claims)

    def _usage(self) -> Usage:
        return sum((each.usage for each in self._counted), _NOTHING)

    def _outcome(self) -> Outcome:
        if not self._is_admitted:
            return "refused"
        outcomes = {each.outcome for each in self._counted}
        if "failed" in outcomes or isinstance(self._error, Exception):
            return "failed"
        return "ok" if outcomes == {"ok"} and self._error is None else "aborted"

    def _note(self) -> None:
        """A stream has ended as it should: from here on its client may have all of it."""
        self._metering.ledger.note(self._entry())

    def _entry(self) -> Entry:
        """What the request has used so far, as a row."""
        usage = self._usage()
        target = next((each.target for each in self._counted if each.target), "")
        tariff = self._metering.prices.of(target, self._model) if target else self._tariff
        firsts = [each.first_at for each in self._counted if each.first_at is not None]
        outcome = self._outcome()
        saved = sum((each.saved for each in self._counted), _NOTHING)
        code = self._error.code if isinstance(self._error, CairnError) else ""
        return Entry(
            usage_id=self._usage_id(outcome, code),
            at=self._at,
            user_id=self._caller.user_id,
            key_id=self._caller.key_id,
            groups=self._caller.groups,
            model=self._model,
            target=target,
            endpoint=self._endpoint,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            cost=tariff.cost(usage),
            saved_tokens=saved.prompt_tokens + saved.completion_tokens,
            saved_cost=tariff.cost(saved) if saved is not _NOTHING else 0,
            currency=tariff.currency,
            prompt_price=tariff.prompt,
            cached_price=tariff.cached,
            completion_price=tariff.completion,
            seconds=time.perf_counter() - self._started,
            first_token_seconds=min(firsts) - self._started if firsts else None,
            outcome=outcome,
            code=code,
            receipt_id=next((each.receipt_id for each in self._counted if each.receipt_id), self._receipt_id),
        )

    def _usage_id(self, outcome: Outcome, code: str) -> str:
        """A request's own id; refusals that are alike share one for a minute, so that a flood is one row."""
        if outcome != "refused":
            return self._request_id
        caller = self._caller
        alike = (self._at // 60, caller.user_id, caller.key_id, self._model, self._endpoint, code)
        return "refused_" + hashlib.sha256(repr(alike).encode()).hexdigest()[:32]


async def admission(request: Request, caller: Caller) -> AsyncIterator[Ticket]:
    """The ticket of a request; it is settled when the answer has been sent, or cannot be."""
    endpoint = getattr(request.scope.get("route"), "path", request.url.path)
    request_id = request.scope.get("request_id") or f"req_{random_hex(24)}"
    state = state_of(request)
    deadline = deadline_of(request, state.config.deadline_seconds)
    promise = partial(check_promise, state, caller, deadline)
    ticket = Ticket(state.metering, caller, endpoint, request_id, check_promise=promise)
    if state.answers is not None:
        ticket.reuse = reuse_of(request.headers.get(CACHE_HEADER))
    try:
        yield ticket
    except BaseException as error:
        ticket.fail(error)
        raise
    finally:
        await ticket.close()


Admission = Annotated[Ticket, Depends(admission)]


def about_tokens(texts: Sequence[str | Sequence[int]]) -> int:
    """Tokens that texts may be, before a tokenizer is at hand; of token ids their number."""
    return sum(
        len(each) // _CHARACTERS_PER_TOKEN + 1 if isinstance(each, str) else len(each) for each in texts
    )


def _header_text(text: str) -> str:
    return "".join(each if " " <= each <= "~" else f"\\u{ord(each):04x}" for each in text)
