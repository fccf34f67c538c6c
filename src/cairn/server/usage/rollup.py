"""Old rows of the ledger become daily sums, so that the table stays bounded while reports stay exact.

A row of a day stands for all requests of that day that are alike in everything that a report sums up by but
the hour, in their prices, and in their place on the scale of times: so percentiles stay what they were too.
Rows go in batches, each with its sums in one transaction: whoever reads meanwhile, or kills the server,
counts each once.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, delete, func, not_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from cairn.registry import Database
from cairn.server.usage.tables import UsageRow

_BATCH = 1000
_HOURS = 24
_DAY = 86400.0
_PREFIX, _AFTER = "day_", "day`"
"""Ids of sums, and what comes next in order."""
_ALIKE = (
    "user_id",
    "key_id",
    "groups",
    "model",
    "target",
    "endpoint",
    "currency",
    "prompt_price",
    "cached_price",
    "completion_price",
    "latency_step",
    "outcome",
    "code",
)
_SUMMED = (
    "num_requests",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "cost",
    "saved_tokens",
    "saved_cost",
    "seconds",
    "first_token_seconds",
    "num_first",
)
_IS_SUM = and_(UsageRow.usage_id >= _PREFIX, UsageRow.usage_id < _AFTER)


def roll_up(database: Database, days: int, now: float) -> int:
    """Sum up what is older than so many whole days; how many rows went into sums."""
    before = (int(now // _DAY) - days) * _HOURS
    num = 0
    while gone := _roll_up_some(database, before):
        num += gone
    return num


def whole_days(session: Session, since: float, until: float) -> tuple[float, float]:
    """A span, widened to whole days at the ends where there are only those."""
    newest = session.scalar(select(func.max(UsageRow.hour)).where(_IS_SUM))
    if newest is None:
        return since, until
    edge = (newest // _HOURS + 1) * _DAY
    return (
        since // _DAY * _DAY if since < edge else since,
        math.ceil(until / _DAY) * _DAY if until < edge else until,
    )


def _roll_up_some(database: Database, before: int) -> int:
    chosen = select(UsageRow.usage_id).where(UsageRow.hour < before, not_(_IS_SUM)).limit(_BATCH)
    columns = [getattr(UsageRow, name) for name in ("hour", *_ALIKE, *_SUMMED)]
    with database.session() as session, session.begin():
        rows = session.execute(
            delete(UsageRow).where(UsageRow.usage_id.in_(chosen)).returning(*columns),
            execution_options={"synchronize_session": False},
        ).all()
        if rows:
            _add(session, _sums(rows), is_sqlite=database.is_sqlite)
    return len(rows)


def _sums(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows summed up by day and what makes them alike, ordered: two servers never wait for each other."""
    sums: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        alike = (row[0] // _HOURS, *row[1 : 1 + len(_ALIKE)])
        values = [value or 0 for value in row[1 + len(_ALIKE) :]]
        held = sums.setdefault(alike, [0] * len(_SUMMED))
        sums[alike] = [one + other for one, other in zip(held, values, strict=True)]
    made = []
    for key, values in sums.items():
        day, name = key[0], hashlib.sha256(repr(key).encode()).hexdigest()[:40]
        row = dict(zip((*_ALIKE, *_SUMMED), (*key[1:], *values), strict=True))
        made.append(
            row | {"usage_id": _PREFIX + name, "at": day * _DAY, "hour": day * _HOURS, "receipt_id": ""}
        )
    return sorted(made, key=lambda row: str(row["usage_id"]))


def _add(session: Session, sums: list[dict[str, Any]], *, is_sqlite: bool) -> None:
    table = UsageRow.__table__
    statement = (sqlite if is_sqlite else postgresql).insert(table)
    more = {name: table.c[name] + statement.excluded[name] for name in _SUMMED}
    session.execute(statement.on_conflict_do_update(index_elements=["usage_id"], set_=more), sums)
