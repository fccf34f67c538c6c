"""Filters of a search by what files are said to be: comparisons of their attributes, joined by and and or."""

import operator
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from cairn.core.errors import InvalidRequestError
from cairn.server.body import Strict

Scalar = bool | float | str
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


class ComparisonFilter(Strict):
    """Holds where a file's attribute compares so; an attribute that is not there is only `ne` and `nin`."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    key: str
    value: Scalar | list[Scalar]


class CompoundFilter(Strict):
    """Holds where all of its filters do, or any."""

    type: Literal["and", "or"]
    filters: list["Filter"]


class RankingOptions(Strict):
    """`none` is without the reranker; what scores below the threshold, from 0 to 1, is left out."""

    ranker: Literal["none", "auto", "default-2024-11-15"] = "auto"
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0


Filter = Annotated[ComparisonFilter | CompoundFilter, Field(discriminator="type")]


def fits(wanted: ComparisonFilter | CompoundFilter, attributes: Mapping[str, Scalar]) -> bool:
    """Whether a file with these attributes passes."""
    if isinstance(wanted, CompoundFilter):
        join = all if wanted.type == "and" else any
        return join(fits(each, attributes) for each in wanted.filters)
    has, value = attributes.get(wanted.key), wanted.value
    if wanted.type in ("in", "nin"):
        if not isinstance(value, list):
            raise _mismatch(wanted, "a list")
        return any(_equal(has, each) for each in value) == (wanted.type == "in")
    if isinstance(value, list):
        raise _mismatch(wanted, "a string, number or boolean")
    if wanted.type in ("eq", "ne"):
        return _equal(has, value) == (wanted.type == "eq")
    is_number = not isinstance(has, bool | str | None)
    if isinstance(value, bool) or has is None or isinstance(has, bool) or is_number == isinstance(value, str):
        return False
    return _ORDERS[wanted.type](has, value)


def _equal(one: Scalar | None, other: Scalar) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _mismatch(wanted: ComparisonFilter, allowed: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"the filter {wanted.type!r} of {wanted.key!r} compares with {wanted.value!r}, allowed: {allowed}",
        param="filters",
    )
