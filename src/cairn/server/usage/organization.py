"""`/v1/organization/usage/completions`: the ledger's sums of what models wrote, in OpenAI's shape."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from cairn.core.errors import InvalidRequestError
from cairn.server.identity.permissions import Permission, permissions_of, require
from cairn.server.state import state_of
from cairn.server.usage.report import Dimension, Question, UsageLine
from cairn.server.usage.routes import MayReadUsage, read_usage

router = APIRouter(prefix="/v1/organization", tags=["openai"])

GroupBy = Literal["model", "user_id", "api_key_id"]
_ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses")
_SECONDS = {"1h": 3600, "1d": 86400}
_BUCKETS = {"1h": (24, 168), "1d": (7, 31)}
"""How many are told at once: unasked, and at most."""
_DIMENSIONS: dict[GroupBy, Dimension] = {"model": "model", "user_id": "user", "api_key_id": "key"}
_Names = Annotated[list[str] | None, Query(max_length=100)]


class UsageResult(BaseModel):
    """What was used in a span by one combination of what was grouped by; the other names are null."""

    object: Literal["organization.usage.completions.result"] = "organization.usage.completions.result"
    input_tokens: int = 0
    output_tokens: int = 0
    input_cached_tokens: int = 0
    num_model_requests: int = 0
    model: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None


class UsageBucket(BaseModel):
    """An hour or a day, by UTC."""

    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: list[UsageResult]


class UsagePage(BaseModel):
    """Some buckets in a row; `next_page` leads on."""

    object: Literal["page"] = "page"
    data: list[UsageBucket]
    has_more: bool
    next_page: str | None = None


@router.get("/usage/completions")
async def usage_of_completions(
    request: Request,
    caller: MayReadUsage,
    start_time: Annotated[int, Query(ge=0, le=10**11, description="Unix seconds")],
    end_time: Annotated[int | None, Query(ge=0, le=10**11, description="now if left out")] = None,
    bucket_width: Literal["1h", "1d"] = "1d",
    group_by: Annotated[list[GroupBy] | None, Query(alias="group_by[]")] = None,
    models: Annotated[_Names, Query(alias="models[]")] = None,
    user_ids: Annotated[_Names, Query(alias="user_ids[]")] = None,
    api_key_ids: Annotated[_Names, Query(alias="api_key_ids[]")] = None,
    limit: Annotated[int | None, Query(ge=1)] = None,
    page: Annotated[str | None, Query(max_length=20)] = None,
) -> UsagePage:
    """Tokens and requests of what models wrote, over time: everybody's own, administrators' all."""
    if Permission.READ_ALL_USAGE not in permissions_of(caller):
        user_ids = user_ids or [caller.user_id]
        if user_ids != [caller.user_id]:
            require(caller, Permission.READ_ALL_USAGE)
    width, (usual, most) = _SECONDS[bucket_width], _BUCKETS[bucket_width]
    if limit is not None and limit > most:
        raise InvalidRequestError(f"limit is {limit}, allowed: 1 to {most}", param="limit")
    first = _start_of(page, start_time) // width
    end = int(time.time()) if end_time is None else end_time
    beyond = -(-end // width)
    last = min(beyond, first + (limit or usual))
    groups = list(dict.fromkeys(group_by or ()))
    time_of: Dimension = "hour" if bucket_width == "1h" else "day"
    by: tuple[Dimension, ...] = (time_of, "endpoint", "model", "user", "key")
    begin = max(start_time, first * width)
    question = Question(begin, max(begin, min(end, last * width)), by)
    only = {"model": models, "user": user_ids, "key": api_key_ids, "endpoint": _ENDPOINTS}
    lines = (await asyncio.to_thread(read_usage, state_of(request), question)).lines
    chosen = [each for each in lines if _is_among(each, only)]
    found: dict[int, dict[tuple[str | None, ...], UsageResult]] = {}
    for line in chosen:
        key = tuple(getattr(line, _DIMENSIONS[name]) for name in groups)
        names = dict(zip(groups, key, strict=True))
        place = int(datetime.fromisoformat(getattr(line, time_of)).replace(tzinfo=UTC).timestamp()) // width
        _add(found.setdefault(place, {}).setdefault(key, UsageResult.model_validate(names)), line)
    data = [
        UsageBucket(
            start_time=place * width,
            end_time=(place + 1) * width,
            results=list(found.get(place, {}).values()),
        )
        for place in range(first, last)
    ]
    has_more = last < beyond
    return UsagePage(data=data, has_more=has_more, next_page=str(last * width) if has_more else None)


def _start_of(page: str | None, start_time: int) -> int:
    if page is None:
        return start_time
    if not (page.isascii() and page.isdigit() and len(page) < 12 and int(page) >= start_time):
        raise InvalidRequestError(f"no page {page!r}", remedy="give next_page of an answer", param="page")
    return int(page)


def _is_among(line: UsageLine, only: Mapping[str, Iterable[str] | None]) -> bool:
    return all(names is None or getattr(line, name) in names for name, names in only.items())


def _add(result: UsageResult, line: UsageLine) -> None:
    result.input_tokens += line.prompt_tokens
    result.output_tokens += line.completion_tokens
    result.input_cached_tokens += line.cached_tokens
    result.num_model_requests += line.requests - line.refused
