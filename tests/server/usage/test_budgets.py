"""Budgets hold whatever comes in between: other requests, restarts, other servers, clocks that jump."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cairn.registry import Registry
from cairn.server.usage.budgets import Budgets, Reservation, bounds, money
from cairn.server.usage.errors import BudgetError
from cairn.server.usage.ledger import Ledger
from cairn.server.usage.rules import Applied
from tests.server.usage.conftest import applied, entry

DAY = 86400.0
AMOUNT = 1000
_numbers = count()


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def settle(
    budgets: Budgets, ledger: Ledger, reservation: Reservation, cost: int, at: float, user: str
) -> None:
    ledger.put(entry(f"u{next(_numbers)}", at=at, user_id=user, cost=cost))
    budgets.settle(reservation, cost)


async def test_what_is_reserved_is_not_there_for_others(registry: Registry, ledger: Ledger) -> None:
    budgets = Budgets(ledger, registry.database)
    budget = [applied("user", "ada", "money", "day", AMOUNT)]
    first = await budgets.reserve(budget, 600, 5.0)
    with pytest.raises(BudgetError, match=r"0\.0006 are reserved") as caught:
        await budgets.reserve(budget, 600, 5.0)
    assert caught.value.retry_after == DAY - 5
    await settle(budgets, ledger, first, 100, 5.0, "ada")
    await budgets.reserve(budget, 900, 5.0)
    with pytest.raises(BudgetError, match="ask an administrator"):
        await budgets.reserve(budget, 0, 5.0)


async def test_many_at_once_take_no_more_than_there_is(registry: Registry, ledger: Ledger) -> None:
    budgets = Budgets(ledger, registry.database)
    ledger.put(entry("before", at=DAY + 1, user_id="ada", cost=100))
    ledger.put(entry("another-day", at=1, user_id="ada", cost=100))
    ledger.put(entry("another", at=DAY + 1, user_id="bob", cost=100))

    async def ask() -> int:
        try:
            reservation = await budgets.reserve([applied("user", "ada", "money", "day", AMOUNT)], 30, DAY + 9)
        except BudgetError:
            return 0
        await asyncio.sleep(0)
        await settle(budgets, ledger, reservation, 30, DAY + 9, "ada")
        return 30

    assert sum(await asyncio.gather(*(ask() for _ in range(200)))) == 900


@pytest.mark.parametrize("kind", ["user", "group", "key", "all"])
async def test_what_the_ledger_says_is_spent(registry: Registry, ledger: Ledger, kind: Any) -> None:
    mine: dict[str, dict[str, Any]] = {
        "user": {"user_id": "x"},
        "group": {"groups": frozenset({"x", "y"})},
        "key": {"key_id": "x"},
    }
    ledger.put(entry("mine", cost=400, **mine.get(kind, {})))
    ledger.put(entry("elsewhere", cost=50, model="other", **mine.get(kind, {})))
    if kind != "all":
        ledger.put(entry("others", cost=7, user_id="xx", key_id="xx", groups=frozenset({"xx"})))
    budgets = Budgets(ledger, registry.database)
    name = "" if kind == "all" else "x"
    account = await budgets.account(applied(kind, name, "money", "total", AMOUNT), 1000.0)
    assert account.spent == 450
    account = await budgets.account(applied(kind, name, "money", "total", AMOUNT, model="m"), 1000.0)
    assert account.spent == 400


async def test_servers_of_one_database_learn_of_each_other(registry: Registry, ledger: Ledger) -> None:
    clock = Clock()
    budgets = Budgets(ledger, registry.database, clock=clock)
    budget = [applied("user", "ada", "money", "total", AMOUNT)]
    first = await budgets.reserve(budget, 10, 5.0)
    await settle(budgets, ledger, first, 10, 5.0, "ada")
    other = Ledger(registry.database)
    other.put(entry("elsewhere", at=5.0, user_id="ada", cost=985))
    other.close()
    open_one = await budgets.reserve(budget, 5, 5.0)
    clock.now = 31.0
    account = await budgets.account(budget[0], 5.0)
    await settle(budgets, ledger, open_one, 4, 5.0, "ada")  # while the ledger is summed up
    assert account.syncing is not None
    await account.syncing
    assert account.spent == 10 + 985 + 4
    with pytest.raises(BudgetError):
        await budgets.reserve(budget, 2, 5.0)


async def test_a_budget_that_only_warns(registry: Registry, ledger: Ledger) -> None:
    told: list[tuple[Applied, int]] = []
    budgets = Budgets(ledger, registry.database, on_spent=lambda *what: told.append(what))
    budget = [applied("user", "ada", "money", "month", AMOUNT, action="warn")]
    first = await budgets.reserve(budget, 5000, 5.0)
    assert first.warnings == []
    await settle(budgets, ledger, first, 1200, 5.0, "ada")
    assert told == [(budget[0], 1200)]
    second = await budgets.reserve(budget, 5000, 5.0)
    assert second.warnings == ["user ada has spent 0.0012 of 0.001 this month"]
    await settle(budgets, ledger, second, 1, 5.0, "ada")
    assert len(told) == 1


def test_periods() -> None:
    february = 1_708_000_000.0  # 2024-02-15
    start, end = bounds("month", february)
    assert end is not None
    assert (end - start) / DAY == 29
    assert bounds("month", start) == (start, end)
    assert bounds("month", end)[0] == end
    assert bounds("day", start + 5) == (start, start + DAY)
    assert bounds("total", 7.0) == (0.0, None)


def test_money_in_units() -> None:
    assert [money(each) for each in (0, 12_500_000, 31, 1_234_567_890_000)] == [
        "0.00",
        "12.50",
        "0.000031",
        "1,234,567.89",
    ]


Step = tuple[str, int, int]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 400), st.integers(0, 0)),
        st.tuples(st.just("settle"), st.integers(0, 5), st.integers(0, 500)),
        st.tuples(st.just("jump"), st.integers(-2, 2), st.integers(0, 0)),
        st.tuples(st.just("wait"), st.integers(0, 60), st.integers(0, 0)),
        st.tuples(st.just("restart"), st.integers(0, 0), st.integers(0, 0)),
    ),
    max_size=40,
)


@dataclass
class World:
    """What happens to one budget, and what must be so."""

    make: Callable[[], Budgets]
    ledger: Ledger
    user: str
    at: float = 10.5 * DAY
    open: list[tuple[Reservation, float]] = field(default_factory=list)
    spent: dict[float, int] = field(default_factory=dict)
    beyond: dict[float, int] = field(default_factory=dict)

    async def run(self, what: list[Step], clock: Clock) -> None:
        budgets = self.make()
        budget = [applied("user", self.user, "money", "day", AMOUNT)]
        for kind, number, more in what:
            if kind == "jump":
                self.at += number * DAY / 2
            elif kind == "wait":
                clock.now += number
            elif kind == "restart" and not self.open:
                budgets = self.make()
            elif kind == "reserve":
                day = self.at // DAY
                try:
                    self.open.append((await budgets.reserve(budget, number, self.at), self.at))
                    # It was let in because there was something left for it.
                    assert self.spent.get(day, 0) + number <= AMOUNT
                except BudgetError:
                    reserved = sum(each.cost for each, at in self.open if at // DAY == day)
                    assert self.spent.get(day, 0) + reserved + max(1, number) > AMOUNT
            elif kind == "settle" and self.open:
                reservation, at = self.open.pop(number % len(self.open))
                await settle(budgets, self.ledger, reservation, more, at, self.user)
                day = at // DAY
                self.spent[day] = self.spent.get(day, 0) + more
                self.beyond[day] = self.beyond.get(day, 0) + max(0, more - reservation.cost)
            for day, spent in self.spent.items():
                assert spent <= AMOUNT + self.beyond[day]
                assert (await budgets.account(budget[0], day * DAY)).spent == spent


@given(what=steps)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_more_is_spent_than_there_is(registry: Registry, ledger: Ledger, what: list[Step]) -> None:
    clock = Clock()

    def make() -> Budgets:
        return Budgets(ledger, registry.database, clock=clock)

    world = World(make, ledger, f"user{next(_numbers)}")
    asyncio.run(world.run(what, clock))
