"""The audit log, for who may read it: by pages, as a file, and whether its chain holds."""

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from cairn.core.chat import Principal
from cairn.core.errors import InvalidRequestError
from cairn.registry import AUDIT_REMEDY, AuditHead, AuditQuestion, audit_csv, audit_jsonl
from cairn.server.auth import allowed
from cairn.server.identity.permissions import Permission
from cairn.server.state import state_of

router = APIRouter(prefix="/api/audit", tags=["audit"])

_MayRead = Annotated[Principal, allowed(Permission.READ_AUDIT)]
_Text = Annotated[str | None, Query(max_length=300)]


class AuditEntryOut(BaseModel):
    """Who did what to what, when; `hash` seals it and all before it."""

    seq: int
    at: float
    action: str
    actor: str
    subject: str
    details: dict[str, Any]
    hash: str


class AuditPage(BaseModel):
    """A part of the log."""

    entries: list[AuditEntryOut]
    """The newest first."""
    total: int
    """How many there are in all that were asked for."""


class AuditNames(BaseModel):
    """What the log can be filtered by."""

    actors: list[str]
    actions: list[str]


class AuditVerdict(BaseModel):
    """Whether the chain holds, and where it breaks."""

    holds: bool
    count: int
    """Entries that fit, from the first on."""
    head: str
    """Where the chain ends: note it elsewhere, and give it again later."""
    problem: str = ""
    remedy: str = ""
    broken: int | None = None
    """The number of the first entry that does not fit."""
    broken_at: float | None = None
    """When that entry says it was written; null: it is missing."""
    good_until: float | None = None
    """When the last entry that fits was written."""
    seconds: float
    """How long it took."""


def _question(
    since: Annotated[float | None, Query(description="Unix seconds")] = None,
    until: Annotated[float | None, Query(description="Unix seconds; up to then, without it")] = None,
    actor: _Text = None,
    action: Annotated[str | None, Query(max_length=300, description="one, or all of a kind: `key.*`")] = None,
    subject: _Text = None,
    text: Annotated[str, Query(max_length=300, description="stands somewhere in the entry")] = "",
) -> AuditQuestion:
    return AuditQuestion(
        since=_time(since, "since"),
        until=_time(until, "until"),
        actor=actor,
        action=action,
        subject=subject,
        text=text.strip(),
    )


def _time(value: float | None, name: str) -> float | None:
    if value is None or 0 <= value <= 1e11:
        return value
    raise InvalidRequestError(f"{name} is {value:g}, allowed: Unix seconds", param=name)


_Asked = Annotated[AuditQuestion, Depends(_question)]


@router.get("")
def list_audit(
    request: Request,
    _caller: _MayRead,
    asked: _Asked,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=1 << 40)] = 0,
) -> AuditPage:
    """What somebody did, the newest first."""
    found, total = state_of(request).registry.audit.page(asked, limit=limit, offset=offset)
    return AuditPage(entries=[AuditEntryOut(**entry.plain()) for entry in found], total=total)


@router.get("/names")
def list_audit_names(request: Request, _caller: _MayRead) -> AuditNames:
    """The actors and the actions that are in the log."""
    actors, actions = state_of(request).registry.audit.names()
    return AuditNames(actors=actors, actions=actions)


@router.get("/verify")
def verify_audit(request: Request, _caller: _MayRead, head: _Text = None) -> AuditVerdict:
    """Walk the whole chain; with a head that was noted earlier, see that it passes through it."""
    started = time.perf_counter()
    found = state_of(request).registry.audit.examine(AuditHead.parse(head.strip()) if head else None)
    return AuditVerdict(
        holds=not found.problem,
        count=found.count,
        head=str(found.head),
        problem=found.problem,
        remedy=AUDIT_REMEDY if found.problem else "",
        broken=found.broken,
        broken_at=found.broken_at,
        good_until=found.good_until,
        seconds=time.perf_counter() - started,
    )


@router.get(
    "/export",
    response_class=Response,
    responses={200: {"content": {"application/x-ndjson": {}, "text/csv": {}}}},
)
def export_audit(
    request: Request, _caller: _MayRead, asked: _Asked, format: Literal["jsonl", "csv"] = "jsonl"
) -> Response:
    """All that was asked for as a file, oldest first."""
    entries = state_of(request).registry.audit.matching(asked)
    is_csv = format == "csv"
    return StreamingResponse(
        audit_csv(entries) if is_csv else audit_jsonl(entries),
        media_type="text/csv" if is_csv else "application/x-ndjson",
        headers={"content-disposition": f'attachment; filename="audit.{format}"'},
    )
