"""Lists in pages, after or before one of their entries, as OpenAI's clients walk through them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Query

from cairn.core.errors import InvalidRequestError

T = TypeVar("T")
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


def paged(entries: Sequence[T], key: Callable[[T], tuple[float, str]], walk: Walk) -> tuple[list[T], bool]:
    """A page of entries by time and id, and whether there are more in its direction."""
    found = sorted(entries, key=key, reverse=walk.order == "desc")
    ids = [key(each)[1] for each in found]
    if walk.after is not None:
        found = found[_place(ids, walk.after, "after") + 1 :]
    elif walk.before is not None:
        found = found[: _place(ids, walk.before, "before")]
        return found[-walk.limit :], len(found) > walk.limit
    return found[: walk.limit], len(found) > walk.limit


def list_json(data: Sequence[Any], has_more: bool) -> dict[str, Any]:
    """A page as OpenAI writes it."""
    ids = [each.id for each in data]
    ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    return {"object": "list", "data": data, **ends, "has_more": has_more}


def _place(ids: Sequence[str], wanted: str, param: str) -> int:
    if wanted not in ids:
        raise InvalidRequestError(f"{param} is {wanted!r}, which is not in this list", param=param)
    return ids.index(wanted)
