"""Entries and rules to try things with."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from cairn.core.chat import Principal
from cairn.registry import Registry
from cairn.server.usage.ledger import Entry, Ledger
from cairn.server.usage.rules import Applied, Rule
from cairn.server.usage.tables import UsageRow


@pytest.fixture
def ledger(registry: Registry) -> Iterator[Ledger]:
    """An open ledger."""
    opened = Ledger(registry.database)
    yield opened
    opened.close()


def entry(usage_id: str, **values: Any) -> Entry:
    known: dict[str, Any] = {"at": 1000.0, "user_id": "ada", "model": "m", "endpoint": "/v1/chat/completions"}
    return Entry(usage_id=usage_id, **known | {"currency": "USD", "outcome": "ok"} | values)


def rows(registry: Registry) -> list[UsageRow]:
    """The ledger as it is stored, by id."""
    with registry.database.session(read_only=True) as session:
        return list(session.scalars(select(UsageRow).order_by(UsageRow.usage_id)))


def rule(kind: Any, name: str, metric: Any, window: Any, amount: int, **values: Any) -> Rule:
    return Rule(kind=kind, name=name, metric=metric, window=window, amount=amount, **values)


def applied(*values: Any, **more: Any) -> Applied:
    made = rule(*values, **more)
    return Applied(made, made.name)


ADA = Principal("ada", groups=frozenset({"makers"}), key_id="k1")
