"""Budgets: money that may be spent in a day, a month or in all, by UTC.

What a request may cost is reserved before it is answered and settled after: what is spent and reserved
never exceeds a budget that stops, but by what requests under way cost beyond their reservations.
What was spent is what the ledger says, so it survives restarts, and nothing is lost or counted twice when
an account is opened: the ledger is summed up between two of its entries. The period is that of the time at
which a request came; a clock that jumps leads to the account of that period, with what was spent in it.
Several servers of one database learn of each other's spending from the ledger, every `_SYNC_SECONDS`.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, func, select

from cairn.registry import Database
from cairn.server.usage.errors import BudgetError
from cairn.server.usage.ledger import Ledger
from cairn.server.usage.prices import MICRO
from cairn.server.usage.rules import Applied
from cairn.server.usage.tables import UsageRow

_SYNC_SECONDS = 30.0
_MOST_ACCOUNTS = 10_000


class Account:
    """What one subject of one rule has spent in one period."""

    def __init__(self, applied: Applied, start: float, end: float | None) -> None:
        self.applied, self.start, self.end = applied, start, end
        self.base = 0
        """What the ledger said last."""
        self.since = 0
        """What was settled after that."""
        self.reserved = 0
        self.num_reserved = 0
        self.synced_at = float("-inf")
        self.syncing: asyncio.Task[None] | None = None

    @property
    def spent(self) -> int:
        return self.base + self.since


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a request has reserved of its accounts."""

    accounts: tuple[tuple[Applied, Account], ...]
    cost: int

    @property
    def warnings(self) -> list[str]:
        """Of budgets that are spent, but do not stop."""
        return [
            f"{applied.who} has spent {money(account.spent)} of {money(applied.rule.amount)} "
            f"{period(applied.rule.window)}"
            for applied, account in self.accounts
            if applied.rule.action == "warn" and account.spent >= applied.rule.amount
        ]


class Budgets:
    """The accounts of all budgets, in one event loop."""

    def __init__(
        self,
        ledger: Ledger,
        database: Database,
        *,
        on_spent: Callable[[Applied, int], None] = lambda _applied, _spent: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._database = database
        self._on_spent = on_spent
        self._clock = clock
        self._accounts: OrderedDict[tuple[str, float], Account] = OrderedDict()

    async def reserve(self, applied: Sequence[Applied], cost: int, at: float) -> Reservation:
        """Reserve what a request that came at `at` may cost; `BudgetError` when a budget does not have it."""
        accounts = [(each, await self.account(each, at)) for each in applied]
        # From here on nothing is awaited: what was checked is what is reserved from.
        for each, account in accounts:
            left = each.rule.amount - account.spent - account.reserved
            if each.rule.action == "stop" and (left < cost or left <= 0):
                raise _refused(each, account, cost, at)
        for _, account in accounts:
            account.reserved += cost
            account.num_reserved += 1
        return Reservation(tuple(accounts), cost)

    def settle(self, reservation: Reservation, cost: int) -> None:
        """Give back what was reserved and book what it cost; call it right after the ledger's `put`."""
        for applied, account in reservation.accounts:
            account.reserved -= reservation.cost
            account.num_reserved -= 1
            before = account.spent
            account.since += cost
            if before < applied.rule.amount <= account.spent:
                self._on_spent(applied, account.spent)

    async def account(self, applied: Applied, at: float) -> Account:
        """The account of a rule's subject at a time, with what the ledger says."""
        start, end = bounds(applied.rule.window, at)
        key = (applied.subject, start)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account(applied, start, end)
            self._forget()
        self._accounts.move_to_end(key)
        is_new = account.synced_at == float("-inf")
        if account.syncing is None and (is_new or self._clock() - account.synced_at >= _SYNC_SECONDS):
            account.syncing = asyncio.create_task(self._sync(account))
            # One that fails has told whoever waits for it; the next request tries again.
            account.syncing.add_done_callback(lambda task: task.cancelled() or task.exception())
        if is_new and account.syncing is not None:
            await asyncio.shield(account.syncing)
        return account

    async def _sync(self, account: Account) -> None:
        """Take over what the ledger says, as it is between what was settled up to now and after."""
        settled = account.since
        try:
            base = await asyncio.wrap_future(self._ledger.after(lambda: self._sum(account)))
            account.base = base
            account.since -= settled
            account.synced_at = self._clock()
        finally:
            account.syncing = None

    def _sum(self, account: Account) -> int:
        rule, name = account.applied.rule, account.applied.subject_name
        conditions: list[ColumnElement[bool]] = [UsageRow.at >= account.start]
        if account.end is not None:
            conditions.append(UsageRow.at < account.end)
        if rule.model:
            conditions.append(UsageRow.model == rule.model)
        if rule.kind == "user":
            conditions.append(UsageRow.user_id == name)
        elif rule.kind == "key":
            conditions.append(UsageRow.key_id == name)
        elif rule.kind == "group":
            conditions.append(UsageRow.groups.contains(f"\n{name}\n", autoescape=True))
        query = select(func.coalesce(func.sum(UsageRow.cost), 0)).where(*conditions)
        with self._database.session(read_only=True) as session:
            return int(session.scalar(query) or 0)

    def _forget(self) -> None:
        """The longest unused accounts go; what they held is in the ledger."""
        if len(self._accounts) <= _MOST_ACCOUNTS:
            return
        for key, account in list(self._accounts.items())[: len(self._accounts) - _MOST_ACCOUNTS]:
            if not account.num_reserved and account.syncing is None:
                del self._accounts[key]


def bounds(window: str, at: float) -> tuple[float, float | None]:
    """When the period of a time begins and ends; a total one has no end."""
    if window == "total":
        return 0.0, None
    if window == "day":
        start = at // 86400 * 86400
        return start, start + 86400
    first = datetime.fromtimestamp(at, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    year, month = (first.year + 1, 1) if first.month == 12 else (first.year, first.month + 1)
    return first.timestamp(), first.replace(year=year, month=month).timestamp()


def period(window: str) -> str:
    """A window of money in words."""
    return "in all" if window == "total" else f"this {window}"


def money(micro: int) -> str:
    """Millionths as units, with as many places as they have but at least two: `12.50`, `0.000031`."""
    text = f"{micro / MICRO:,.6f}".rstrip("0")
    whole, _, places = text.partition(".")
    return f"{whole}.{places:0<2}"


def _refused(applied: Applied, account: Account, cost: int, at: float) -> BudgetError:
    rule = applied.rule
    message = (
        f"the budget of {applied.who} does not have it: {money(account.spent)} of {money(rule.amount)} are "
        f"spent {period(rule.window)}, {money(account.reserved)} are reserved, this request may cost "
        f"{money(cost)}"
    )
    has_some = account.spent + account.reserved < rule.amount
    remedy = "ask for fewer tokens with max_tokens" if has_some else "ask an administrator for more"
    end = account.end
    if end is not None:
        remedy += f", or wait until {datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M} UTC"
    return BudgetError(
        message,
        remedy=remedy,
        retry_after=1.0 if end is None else max(1.0, end - at),
        headers={"x-should-retry": "false"},
    )
