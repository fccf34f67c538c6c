"""Lists in pages, after or before one of their entries, as OpenAI's clients walk through them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from sqlalchemy import Row, Select, SQLColumnExpression
from sqlalchemy.orm import Session

from cairn.core.errors import InvalidRequestError

Order = Literal["asc", "desc"]


@dataclass(frozen=True, slots=True)
class Walk:
    """Which page of a list is asked for."""

    limit: Annotated[int, Query(ge=1, le=100)] = 20
    order: Order = "desc"
    after: str | None = None
    before: str | None = None


Page = Annotated[Walk, Depends()]
"""A route's parameters of that."""


def walked(
    session: Session,
    query: Select[Any],
    at: SQLColumnExpression[float],
    key: SQLColumnExpression[str],
    walk: Walk,
) -> tuple[list[Row[Any]], bool]:
    """A page of a query's rows by time and id, and whether there are more in its direction."""
    anchor, param = (walk.before, "before") if walk.after is None else (walk.after, "after")
    is_upwards = (walk.order == "asc") != (param == "before" and anchor is not None)
    if anchor is not None:
        place = session.execute(query.with_only_columns(at, key).where(key == anchor)).first()
        if place is None:
            raise InvalidRequestError(f"{param} is {anchor!r}, which is not in this list", param=param)
        beyond = (at > place[0]) if is_upwards else (at < place[0])
        beside = (key > place[1]) if is_upwards else (key < place[1])
        query = query.where(beyond | ((at == place[0]) & beside))
    order = (at.asc(), key.asc()) if is_upwards else (at.desc(), key.desc())
    rows = list(session.execute(query.order_by(*order).limit(walk.limit + 1)))
    has_more, rows = len(rows) > walk.limit, rows[: walk.limit]
    return (rows if is_upwards == (walk.order == "asc") else rows[::-1]), has_more


def list_json(data: Sequence[Any], has_more: bool) -> dict[str, Any]:
    """A page as OpenAI writes it."""
    ids = [each.id for each in data]
    ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    return {"object": "list", "data": data, **ends, "has_more": has_more}
