"""What the server knows of use and of its bounds, in one value: ledger, prices, rules, windows, budgets."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cairn.core.chat import Usage
from cairn.core.errors import UnavailableError
from cairn.registry import Registry
from cairn.registry.journal import FOLDER
from cairn.server.config import ServerConfig
from cairn.server.usage.budgets import Budgets, money
from cairn.server.usage.errors import RateLimitedError
from cairn.server.usage.ledger import Ledger
from cairn.server.usage.prices import Prices
from cairn.server.usage.rules import Applied, RuleBook

if TYPE_CHECKING:
    from cairn.server.usage.windows import Windows

logger = logging.getLogger("cairn.server")

_REFRESH_SECONDS = 1.0
_MOST_TOKENS = 10**9
_BUSY_SECONDS = 1.0
"""After which a request beyond a bound on concurrency may try again."""


class Metering:
    """Counts what requests use and holds them to the rules. Of one event loop, but for `ledger`."""

    def __init__(
        self, registry: Registry, config: ServerConfig, *, now: Callable[[], float] = time.time
    ) -> None:
        self.now = now
        self.config = config
        self.ledger = Ledger(registry.database, journal=registry.settings.home / FOLDER)
        self.prices = Prices(registry.settings.home / "prices.toml")
        self.rules = RuleBook(registry)
        self.budgets = Budgets(self.ledger, registry.database, on_spent=self._note_spent)
        self._registry = registry
        self._windows: Windows | None = None
        self._running: dict[str, int] = {}
        self._fresh_until = 0.0
        self._num_changes = 0
        self._refreshing: asyncio.Task[None] | None = None

    @property
    def windows(self) -> "Windows":
        """Counters of requests and tokens; made when a rule first needs them."""
        if self._windows is None:
            from cairn.server.usage.windows import Windows  # noqa: PLC0415 - most servers need no library for it

            self._windows = Windows(
                self._registry.settings.redis_url, redis_failure=self.config.redis_failure
            )
        return self._windows

    async def refresh(self) -> None:
        """See to it that rules and prices are no older than a second; where none has changed, none waits."""
        while (left := self._fresh_until - time.monotonic()) <= _REFRESH_SECONDS / 2:
            if self.rules.is_current and self.prices.is_current:
                self._fresh_until = time.monotonic() + _REFRESH_SECONDS
                return
            if self._refreshing is None:
                self._refreshing = asyncio.create_task(self._reread())
                self._refreshing.add_done_callback(lambda task: task.cancelled() or task.exception())
            if left > 0:
                return
            await asyncio.shield(self._refreshing)

    async def _reread(self) -> None:
        changes = self._num_changes
        try:
            await asyncio.to_thread(self._read)
            if self._num_changes == changes:
                self._fresh_until = time.monotonic() + _REFRESH_SECONDS
        finally:
            self._refreshing = None

    def outdate(self) -> None:
        """Have rules and prices read anew before the next request; from any thread."""
        self._num_changes += 1
        self._fresh_until = 0.0

    def check_ledger(self) -> None:
        """Refuse what could not be counted."""
        if self.ledger.is_full:
            raise UnavailableError(
                f"the usage of {self.ledger.num_waiting} requests waits for the database, no more are taken",
                remedy="the server's log says what the database refuses",
                retry_after=5.0,
            )

    def enter(self, applied: Sequence[Applied]) -> None:
        """Take a place in all bounds on concurrency, or in none."""
        for each in applied:
            if (num := self._running.get(each.subject, 0)) >= each.rule.amount:
                raise RateLimitedError(
                    f"limit reached for {each.who}: {num} of {each.rule.amount} requests are under way",
                    remedy="wait until one of them has ended",
                    retry_after=_BUSY_SECONDS,
                )
        for each in applied:
            self._running[each.subject] = self._running.get(each.subject, 0) + 1

    def leave(self, applied: Sequence[Applied]) -> None:
        """Give those places back."""
        for each in applied:
            num = self._running.pop(each.subject) - 1
            if num:
                self._running[each.subject] = num

    def num_running(self, applied: Applied) -> int:
        """Requests under way that a rule counts."""
        return self._running.get(applied.subject, 0)

    def estimate(self, prompt_tokens: int, completion_tokens: int | None, num_choices: int) -> Usage:
        """What a request may take at most, as far as it says so."""
        each = self.config.reserve_tokens if completion_tokens is None else completion_tokens
        # What makes no sense is refused later, by who reads it; here it must not count below nothing.
        return Usage(prompt_tokens, min(max(0, each) * max(1, num_choices), _MOST_TOKENS))

    async def close(self) -> None:
        """Store what is not stored yet."""
        await asyncio.to_thread(self.ledger.close)
        if self._windows is not None:
            await self._windows.close()

    def _read(self) -> None:
        self.rules.reload()
        self.prices.refresh()

    def _note_spent(self, applied: Applied, spent: int) -> None:
        """A budget is spent: the audit log and the log say so, from the ledger's thread."""
        rule = applied.rule
        logger.warning("%s has spent its budget of %s (%s)", applied.who, money(rule.amount), rule.window)
        details: dict[str, Any] = {
            "subject": f"{rule.kind}:{applied.subject_name}" if applied.subject_name else rule.kind,
            "window": rule.window,
            "amount": rule.amount,
            "spent": spent,
        }
        self.ledger.after(
            lambda: self._registry.audit.append(f"budget.{rule.action}", "cairn", rule.limit_id, details)
        )
