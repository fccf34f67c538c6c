"""Use over time: the ledger summed up by anything.

Days and hours are those of UTC. Of days that were summed up (`rollup`) there are no hours: a span that begins
or ends within one is widened to all of it, and the answer says so. Who is in several groups counts in each of
them, so by group the sum may be more than the total. Percentiles are read off a scale whose steps are a ninth
apart.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from pydantic import BaseModel
from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import Session

from cairn.core.csv_cells import safe_cell
from cairn.core.errors import InvalidRequestError
from cairn.registry import Database
from cairn.server.usage.budgets import money
from cairn.server.usage.ledger import seconds_of, unpacked
from cairn.server.usage.rollup import whole_days
from cairn.server.usage.tables import UsageRow

Dimension = Literal["hour", "day", "model", "target", "user", "key", "group", "endpoint", "outcome"]
DIMENSIONS: tuple[str, ...] = get_args(Dimension)
_MOST_ROWS = 20_000
_HOURS = 24

_COLUMNS: dict[str, Any] = {
    "hour": UsageRow.hour,
    "day": UsageRow.hour // _HOURS,
    "model": UsageRow.model,
    "target": UsageRow.target,
    "user": UsageRow.user_id,
    "key": UsageRow.key_id,
    "group": UsageRow.groups,
    "endpoint": UsageRow.endpoint,
    "outcome": UsageRow.outcome,
}


class UsageSums(BaseModel):
    """What requests used together. `cost` is in millionths of the currency's unit."""

    requests: int = 0
    refused: int = 0
    failed: int = 0
    aborted: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost: int = 0
    saved_tokens: int = 0
    """What answers that were given again would have taken, and below what that would have cost."""
    saved_cost: int = 0
    seconds_p50: float | None = None
    """Of requests that were not refused."""
    seconds_p95: float | None = None
    first_token_seconds: float | None = None
    """Mean time to the first token, of answers that were streamed or generated."""


class UsageLine(UsageSums):
    """The sums of one combination of what was asked `by`; the other names are null."""

    hour: str | None = None
    day: str | None = None
    model: str | None = None
    target: str | None = None
    user: str | None = None
    key: str | None = None
    group: str | None = None
    endpoint: str | None = None
    outcome: str | None = None


class UsageReport(BaseModel):
    """Use in a span of time."""

    since: float
    until: float
    by: list[Dimension]
    currency: str
    total: UsageSums
    lines: list[UsageLine]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the ledger: a span of time in Unix seconds, what to sum up by, and of whom or what."""

    since: float
    until: float
    by: tuple[Dimension, ...] = ()
    only: Mapping[str, str] = field(default_factory=dict)
    """By the name of a dimension, the value that counts."""


def report(database: Database, question: Question, currency: str) -> UsageReport:
    """The answer, in the order of what was asked by: times from the earliest, others by their names."""
    with database.session(read_only=True) as session:
        since, until = whole_days(session, question.since, question.until)
        question = replace(question, since=since, until=until)
        lines = _sums(session, question, question.by)
        total = _sums(session, question, ())
    return UsageReport(
        since=question.since,
        until=question.until,
        by=list(question.by),
        currency=currency,
        total=UsageSums(**total[0].model_dump(include=set(UsageSums.model_fields))) if total else UsageSums(),
        lines=lines if question.by else [],
    )


def dimensions(text: str) -> tuple[Dimension, ...]:
    """`day,model` as what to sum up by."""
    names: list[Any] = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in DIMENSIONS:
            raise InvalidRequestError(
                f"usage is not kept by {name!r}", remedy=f"allowed: {', '.join(DIMENSIONS)}", param="by"
            )
    return tuple(dict.fromkeys(names))


def as_csv(found: UsageReport) -> str:
    """The lines of a report as CSV, money in units."""
    out = io.StringIO()
    sums = list(UsageSums.model_fields)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*found.by, *sums, "currency"])
    for line in found.lines if found.by else [UsageLine(**found.total.model_dump())]:
        values = line.model_dump()
        for name in ("cost", "saved_cost"):
            values[name] = money(values[name]).replace(",", "")
        names = [safe_cell(values[name]) for name in found.by]
        writer.writerow(
            [*names, *("" if values[name] is None else values[name] for name in sums), found.currency]
        )
    return out.getvalue()


class _Line:
    """Sums that are being added up."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.steps: dict[int, int] = {}
        self.first_sum, self.num_first = 0.0, 0

    def finish(self) -> dict[str, Any]:
        """As the fields of `UsageSums`."""
        first = self.first_sum / self.num_first if self.num_first else None
        return self.counts | {
            "seconds_p50": _percentile(self.steps, 0.5),
            "seconds_p95": _percentile(self.steps, 0.95),
            "first_token_seconds": first,
        }


def _sums(session: Session, question: Question, by: Sequence[str]) -> list[UsageLine]:
    keys = [_COLUMNS[name] for name in by]
    sums: list[Any] = [func.sum(getattr(UsageRow, name)) for name in _SUMMED]
    sums += [func.sum(case((UsageRow.outcome == name, UsageRow.num_requests), else_=0)) for name in _OUTCOMES]
    sums += [func.sum(UsageRow.first_token_seconds), func.sum(UsageRow.num_first)]
    query = select(*keys, *sums).where(*_conditions(question)).group_by(*keys).limit(_MOST_ROWS + 1)
    lines: dict[tuple[str, ...], _Line] = {}
    rows = session.execute(query).all()
    if len(rows) > _MOST_ROWS:
        raise InvalidRequestError(
            f"that is more than {_MOST_ROWS:,} lines", remedy="ask for a shorter time or by less", param="by"
        )
    for row in rows:
        values = row[len(by) :]
        if not values[0]:
            continue  # the one line of nothing at all
        for key in _keys(by, row):
            line = lines.setdefault(key, _Line())
            for name, value in zip((*_NAMES, *_OUTCOMES), values, strict=False):
                line.counts[name] = line.counts.get(name, 0) + int(value)
            line.first_sum += values[-2] or 0.0
            line.num_first += int(values[-1])
    answered = UsageRow.outcome != "refused"
    query = select(*keys, UsageRow.latency_step, func.sum(UsageRow.num_requests)).where(
        *_conditions(question), answered
    )
    for row in session.execute(query.group_by(*keys, UsageRow.latency_step)):
        for key in _keys(by, row):
            steps = lines[key].steps
            steps[row[-2]] = steps.get(row[-2], 0) + int(row[-1])
    return [UsageLine(**dict(zip(by, key, strict=True)), **lines[key].finish()) for key in sorted(lines)]


_SUMMED = (
    "num_requests",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "cost",
    "saved_tokens",
    "saved_cost",
)
_NAMES = ("requests", *_SUMMED[1:])
_OUTCOMES = ("refused", "failed", "aborted")


def _keys(by: Sequence[str], row: Sequence[Any]) -> list[tuple[str, ...]]:
    """The lines that a row belongs to: several where its user is in several groups."""
    found: list[tuple[str, ...]] = [()]
    for name, value in zip(by, row, strict=False):
        if name == "group":
            names = unpacked(value) or [""]
        elif name in ("hour", "day"):
            at = datetime.fromtimestamp(value * (3600 if name == "hour" else 86400), UTC)
            names = [at.strftime("%Y-%m-%dT%H:00Z" if name == "hour" else "%Y-%m-%d")]
        else:
            names = [value]
        found = [(*key, each) for key in found for each in names]
    return found


def _conditions(question: Question) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [
        UsageRow.hour >= int(question.since // 3600),
        UsageRow.at >= question.since,
        UsageRow.at < question.until,
    ]
    for name, value in question.only.items():
        if name == "group":
            conditions.append(UsageRow.groups.contains(f"\n{value}\n", autoescape=True))
        else:
            conditions.append(_COLUMNS[name] == value)
    return conditions


def _percentile(steps: Mapping[int, int], share: float) -> float | None:
    """The time that this share of requests took at most."""
    wanted = share * sum(steps.values())
    num = 0
    for step in sorted(steps):
        num += steps[step]
        if num >= wanted:
            return round(seconds_of(step), 4)
    return None
