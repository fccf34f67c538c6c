"""Use and limits over HTTP: everybody sees their own, administrators all; they alone change limits."""

import asyncio
import time
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ValidationError
from starlette.responses import PlainTextResponse, Response

from cairn.core.chat import Principal
from cairn.core.errors import InvalidRequestError
from cairn.server.auth import allowed
from cairn.server.body import RequestBody
from cairn.server.identity.permissions import Permission, permissions_of, require
from cairn.server.state import ServerState, state_of
from cairn.server.usage.budgets import bounds
from cairn.server.usage.report import Question, UsageReport, as_csv, dimensions, report
from cairn.server.usage.rules import EACH, Applied, Kind, Metric, Rule, Window, remove_rule, set_rules

router = APIRouter(prefix="/api", tags=["usage"])

_DAY = 86400.0
_DEFAULT_DAYS = 7
MayReadUsage = Annotated[Principal, allowed(Permission.READ_USAGE)]
_MaySetLimits = Annotated[Principal, allowed(Permission.MANAGE_LIMITS)]
_Only = Annotated[str | None, Query(max_length=200)]


class LimitBody(RequestBody):
    """A limit or budget to set."""

    kind: Kind
    name: str = ""
    model: str = ""
    metric: Metric
    window: Window = ""
    amount: int
    """Money in millionths of the currency's unit."""
    action: Literal["stop", "warn"] = "stop"


class LimitStanding(BaseModel):
    """How much of a limit is used by one of those it counts."""

    subject: str
    """A user, a group, a key id; empty: everybody."""
    used: int
    reserved: int = 0
    """Of money: by requests under way."""
    resets_in: float | None = None
    """Seconds until it begins anew; null: it does not, or nothing is counted."""


class Limit(BaseModel):
    """A limit or budget, and how it stands."""

    id: str
    kind: Kind
    name: str
    model: str
    metric: Metric
    window: Window
    amount: int
    action: Literal["stop", "warn"]
    standing: LimitStanding | None = None
    """Null of one for each of many."""


class LimitList(BaseModel):
    """The limits that somebody may see."""

    currency: str
    data: list[Limit]


@router.get("/usage", response_model=UsageReport, responses={200: {"content": {"text/csv": {}}}})
async def usage(
    request: Request,
    caller: MayReadUsage,
    since: Annotated[
        float | None, Query(description="Unix seconds; a week before `until` if left out")
    ] = None,
    until: Annotated[float | None, Query(description="Unix seconds; now if left out")] = None,
    by: Annotated[str, Query(description="any of hour, day, model, target, user, key, group, ...")] = "day",
    model: _Only = None,
    target: _Only = None,
    user: _Only = None,
    key: _Only = None,
    group: _Only = None,
    endpoint: _Only = None,
    outcome: _Only = None,
    format: Literal["json", "csv"] = "json",
) -> Response | UsageReport:
    """What was used in a span of time, summed up by anything."""
    state = state_of(request)
    given = {"model": model, "target": target, "user": user, "key": key, "group": group}
    given |= {"endpoint": endpoint, "outcome": outcome}
    only = {name: value for name, value in given.items() if value is not None}
    if not _sees_all(caller) and only.setdefault("user", caller.user_id) != caller.user_id:
        require(caller, Permission.READ_ALL_USAGE)
    end = time.time() if until is None else until
    start = end - _DEFAULT_DAYS * _DAY if since is None else since
    if not 0 <= start <= end <= 1e11:
        raise InvalidRequestError(
            f"since {start:g} and until {end:g} are no span of time",
            remedy="give Unix seconds",
            param="since",
        )
    question = Question(start, end, dimensions(by), only)
    found = await asyncio.to_thread(read_usage, state, question)
    if format == "csv":
        return PlainTextResponse(
            as_csv(found),
            media_type="text/csv",
            headers={"content-disposition": 'attachment; filename="usage.csv"'},
        )
    return found


def read_usage(state: ServerState, question: Question) -> UsageReport:
    """The answer to a question, what was answered a moment ago included."""
    # With what the ledger still holds back.
    return state.metering.ledger.after(
        lambda: report(state.registry.database, question, state.metering.prices.currency)
    ).result()


@router.get("/limits")
async def limits(request: Request, caller: MayReadUsage) -> LimitList:
    """The limits and budgets that hold for who asks, and how they stand; of administrators all there are."""
    metering = state_of(request).metering
    metering.outdate()
    await metering.refresh()
    found: list[Limit | None]
    if _sees_all(caller):
        found = [await _standing(request, rule) for rule in metering.rules.rules]
    else:
        found = [await _own(request, caller, rule) for rule in metering.rules.rules]
    return LimitList(currency=metering.prices.currency, data=[each for each in found if each is not None])


@router.put("/limits")
async def set_limit(request: Request, caller: _MaySetLimits, body: LimitBody) -> Limit:
    """Set a limit or budget, in place of one about the same."""
    state = state_of(request)
    try:
        rule = Rule.model_validate(body.model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        place = str(first["loc"][0]) if first["loc"] else None
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidRequestError(f"{place}: {message}" if place else message, param=place) from None
    await asyncio.to_thread(set_rules, state.registry, [rule], caller.user_id)
    state.metering.outdate()
    return _limit(rule)


@router.delete("/limits/{limit_id}", status_code=204)
async def remove_limit(request: Request, caller: _MaySetLimits, limit_id: str) -> Response:
    """Let a limit or budget go."""
    state = state_of(request)
    await asyncio.to_thread(remove_rule, state.registry, limit_id, caller.user_id)
    state.metering.outdate()
    return Response(status_code=204)


def _sees_all(caller: Principal) -> bool:
    return Permission.READ_ALL_USAGE in permissions_of(caller)


async def _own(request: Request, caller: Principal, rule: Rule) -> Limit | None:
    """A rule as it holds for somebody; None when it does not."""
    rules = state_of(request).metering.rules
    for applied in rules.applied(caller, rule.model):
        if applied.rule == rule:
            return await _standing(request, rule, applied.subject_name)
    return None


async def _standing(request: Request, rule: Rule, subject: str | None = None) -> Limit:
    if subject is None:
        if rule.name == EACH:
            return _limit(rule)
        subject = rule.name
    metering, applied = state_of(request).metering, Applied(rule, subject)
    if rule.metric == "concurrent":
        standing = LimitStanding(subject=subject, used=metering.num_running(applied))
    elif rule.metric == "money":
        now = metering.now()
        account = await metering.budgets.account(applied, now)
        _, end = bounds(rule.window, now)
        left = None if end is None else max(0.0, end - now)
        standing = LimitStanding(
            subject=subject, used=account.spent, reserved=account.reserved, resets_in=left
        )
    else:
        from cairn.server.usage.windows import Claim  # noqa: PLC0415 - as in `Metering.windows`

        (claim,) = await metering.windows.peek([Claim(applied, 0)])
        standing = LimitStanding(subject=subject, used=claim.count, resets_in=claim.seconds_left or None)
    return _limit(rule, standing)


def _limit(rule: Rule, standing: LimitStanding | None = None) -> Limit:
    return Limit(id=rule.limit_id, **rule.model_dump(), standing=standing)
