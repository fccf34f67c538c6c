"""Old rows summed up by day: the table is small, and every question has the answer that it had."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from cairn.registry import Registry
from cairn.server.usage import rollup
from cairn.server.usage.budgets import Account, Budgets
from cairn.server.usage.ledger import Entry, Ledger
from cairn.server.usage.report import DIMENSIONS, Question, dimensions, report
from cairn.server.usage.rollup import roll_up
from cairn.server.usage.tables import UsageRow
from tests.server.usage.conftest import applied, entry, rows

DAY = 86400.0


@pytest.fixture
def registry(either_registry: Registry) -> Registry:
    return either_registry


_NUMBERS = iter(range(10**9))

entries = st.builds(
    lambda **values: entry(f"req_{next(_NUMBERS)}", **values),
    at=st.floats(0, 6 * DAY, exclude_max=True),
    user_id=st.sampled_from(["ada", "bob"]),
    key_id=st.sampled_from(["", "k1"]),
    groups=st.frozensets(st.sampled_from(["x", "y"])),
    model=st.sampled_from(["m", "n"]),
    target=st.sampled_from(["", "m"]),
    endpoint=st.sampled_from(["/v1/chat/completions", "/v1/embeddings"]),
    num_requests=st.just(1),
    prompt_tokens=st.integers(0, 10**10),
    cached_tokens=st.integers(0, 100),
    completion_tokens=st.integers(0, 100),
    cost=st.integers(0, 10**12),
    saved_tokens=st.integers(0, 100),
    saved_cost=st.integers(0, 100),
    prompt_price=st.sampled_from([0, 5]),
    seconds=st.sampled_from([0.25, 0.5, 2.0]),
    first_token_seconds=st.sampled_from([None, 0.125, 0.5]),
    outcome=st.sampled_from(["ok", "failed", "aborted", "refused"]),
    code=st.sampled_from(["", "unavailable"]),
)


def put(registry: Registry, made: Sequence[Entry]) -> None:
    ledger = Ledger(registry.database)
    for each in made:
        ledger.put(each)
    ledger.close()


def answers(registry: Registry, spans: Sequence[tuple[float, float]]) -> list[Any]:
    """What every question about whole days is answered with."""
    by = [name for name in DIMENSIONS if name != "hour"]
    found: list[Any] = []
    for since, until in spans:
        asked = [Question(since, until, dimensions(names)) for names in ("", *by, ",".join(by))]
        found += [report(registry.database, each, "USD") for each in asked]
        only = Question(since, until, dimensions("day"), {"group": "x", "model": "m"})
        found.append(report(registry.database, only, "USD"))
    return found


def spent(registry: Registry) -> list[int]:
    """What budgets take for spent."""
    budgets = Budgets(Ledger(registry.database), registry.database)
    subjects = (("user", "ada"), ("key", "k1"), ("group", "x"), ("all", ""))
    spans = ((0.0, None), (0.0, DAY), (2 * DAY, 3 * DAY))
    return [
        budgets._sum(Account(applied(kind, name, "money", "day", 5), start, end))
        for kind, name in subjects
        for start, end in spans
    ]


@given(first=st.lists(entries, max_size=40), late=st.lists(entries, max_size=10), days=st.integers(0, 7))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_answer_stays(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, first: list[Entry], late: list[Entry], days: int
) -> None:
    monkeypatch.setattr(rollup, "_BATCH", 7)
    with registry.database.writing() as session:
        session.connection().exec_driver_sql("DELETE FROM usage")
    spans = [(0.0, 7 * DAY), (2 * DAY, 4 * DAY), (5 * DAY, 7 * DAY)]
    put(registry, [*first, *late])
    meant = answers(registry, spans), spent(registry)
    with registry.database.writing() as session:
        session.connection().exec_driver_sql("DELETE FROM usage")
    put(registry, first)
    roll_up(registry.database, days, 6 * DAY + 5)
    put(registry, late)
    roll_up(registry.database, days, 6 * DAY + 5)
    assert (answers(registry, spans), spent(registry)) == meant
    assert roll_up(registry.database, days, 6 * DAY + 5) == 0
    edge = (6 - days) * DAY
    kept = [each.usage_id for each in rows(registry) if not each.usage_id.startswith("day_")]
    assert kept == sorted(each.usage_id for each in (*first, *late) if each.at >= edge)


def test_the_table_stays_bounded(registry: Registry) -> None:
    made = [
        entry(f"req_{next(_NUMBERS)}", at=number % 10 * DAY + number, user_id=f"u{number % 3}", cost=1)
        for number in range(3000)
    ]
    put(registry, made)
    assert roll_up(registry.database, 3, 10 * DAY) == 2100
    with registry.database.session(read_only=True) as session:
        num = session.scalar(select(func.count()).select_from(UsageRow))
    assert num == 900 + 7 * 3
    found = report(registry.database, Question(0, 11 * DAY, dimensions("user")), "USD")
    assert [(line.user, line.cost) for line in found.lines] == [("u0", 1000), ("u1", 1000), ("u2", 1000)]


def test_a_span_within_a_day_that_is_summed_up_is_widened_and_says_so(registry: Registry) -> None:
    put(registry, [entry(f"req_{hour}", at=hour * 3600.0) for hour in range(72)])
    roll_up(registry.database, 1, 3 * DAY)
    found = report(registry.database, Question(0.5 * DAY, 1.25 * DAY), "USD")
    assert (found.since, found.until, found.total.requests) == (0.0, 2 * DAY, 48)
    found = report(registry.database, Question(2.5 * DAY, 2.75 * DAY), "USD")
    assert (found.since, found.until, found.total.requests) == (2.5 * DAY, 2.75 * DAY, 6)


def test_what_fails_in_the_midst_leaves_all_as_it_was(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(registry, [entry(f"req_{number}", at=float(number)) for number in range(20)])

    def fail(*_args: Any, **_values: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(rollup, "_add", fail)
        with pytest.raises(RuntimeError):
            roll_up(registry.database, 1, 9 * DAY)
    assert len(rows(registry)) == 20
    assert roll_up(registry.database, 1, 9 * DAY) == 20
    (row,) = rows(registry)
    assert (row.num_requests, row.at) == (20, 0.0)
