"""Stored traces over HTTP: everybody sees how their own requests went, whoever may see all, all."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from sqlalchemy import select

from cairn.core.chat import Principal
from cairn.core.errors import InvalidRequestError, NotFoundError
from cairn.server.auth import allowed
from cairn.server.identity.permissions import Permission, permissions_of, require
from cairn.server.state import ServerState, state_of
from cairn.server.tables import ConversationRow, MessageRow
from cairn.telemetry import Recorder, TraceFilter, TraceSummary
from cairn.telemetry.finished import FinishedSpan

router = APIRouter(prefix="/api/traces", tags=["traces"])

Outcome = Literal["ok", "recovered", "refused", "failed", "aborted"]
_MayReadTraces = Annotated[Principal, allowed(Permission.READ_TRACES)]
_Only = Annotated[str | None, Query(max_length=200)]
_NS = 1e9
_RECEIPTS = ("cairn.receipt", "cairn.repeats")
_NO_TRACES = "start the server without stored_bytes = 0"


class TraceLine(BaseModel):
    """A request in the list of traces."""

    root_id: str
    trace_id: str
    name: str
    """Method and route."""
    at: float
    """When it came, in Unix seconds."""
    seconds: float
    user_id: str
    model: str
    """That was asked for; empty where none was."""
    status: int
    outcome: Outcome
    """`recovered`: something failed, and the answer came all the same; `aborted`: the client left."""
    error: str
    """The code of what it ended with."""
    receipt_id: str
    """Empty of somebody else's."""


class TraceList(BaseModel):
    """A page of traces, newest first."""

    data: list[TraceLine]
    next: str | None
    """What `before` has to be for the next page; null: this is the last."""


class TraceSpan(BaseModel):
    """A part of a trace that took time."""

    span_id: str
    parent_id: str
    """Not among the spans where it is the caller's."""
    name: str
    kind: Literal["internal", "server", "client"]
    start: float
    """Seconds since the trace's first span."""
    seconds: float
    attributes: dict[str, Any]
    """In the words of OpenTelemetry's conventions, or Cairn's own with `cairn.`."""
    error: str


class TraceDetail(BaseModel):
    """A trace: the requests of it that one may see, and their spans by the time they began."""

    trace_id: str
    at: float
    seconds: float
    requests: list[TraceLine]
    spans: list[TraceSpan]
    conversation_id: str | None
    """Of one's own that holds the answer."""


@router.get("")
async def traces(
    request: Request,
    caller: _MayReadTraces,
    since: Annotated[float, Query(ge=0, le=1e11, description="Unix seconds")] = 0.0,
    until: Annotated[float | None, Query(ge=0, le=1e11, description="Unix seconds")] = None,
    model: _Only = None,
    user: _Only = None,
    outcome: Outcome | None = None,
    min_seconds: Annotated[float, Query(ge=0, le=1e6, description="no faster ones")] = 0.0,
    before: Annotated[str | None, Query(max_length=100, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> TraceList:
    """Requests that were recorded, newest first; a client's part of a trace is not among them."""
    if not _sees_all(caller):
        if user not in (None, caller.user_id):
            require(caller, Permission.READ_ALL_TRACES)
        user = caller.user_id
    only = TraceFilter(
        since=since,
        until=until,
        model=model,
        user_id=user,
        outcome=outcome,
        min_seconds=min_seconds,
        before=None if before is None else _place(before),
    )
    recorder = state_of(request).recorder
    found = await asyncio.to_thread(_listed, recorder, only, limit + 1)
    last = found[limit - 1] if len(found) > limit else None
    return TraceList(
        data=[_line(each, caller) for each in found[:limit]],
        next=None if last is None else f"{last.at!r}_{last.root_id}",
    )


@router.get("/{trace_id}")
async def trace(request: Request, caller: _MayReadTraces, trace_id: str) -> TraceDetail:
    """One trace with its spans: of one's own requests, or of everybody's for whoever may see those."""
    return await asyncio.to_thread(_detail, state_of(request), caller, trace_id)


def _listed(recorder: Recorder | None, only: TraceFilter, limit: int) -> list[TraceSummary]:
    if recorder is None or recorder.store is None:
        return []
    recorder.flush_stored()
    return recorder.store.listed(only, limit)


def _detail(state: ServerState, caller: Principal, trace_id: str) -> TraceDetail:
    recorder = state.recorder
    if recorder is None or recorder.store is None:
        raise NotFoundError("no traces are stored here", remedy=_NO_TRACES)
    recorder.flush_stored()
    found = recorder.store.found(trace_id.lower(), None if _sees_all(caller) else caller.user_id)
    if not found:
        raise NotFoundError(
            f"there is no trace {trace_id!r}", remedy="it may have made room for newer ones, or was not kept"
        )
    began = min(span.started_ns for _, spans in found for span in spans)
    ended = max(span.ended_ns for _, spans in found for span in spans)
    own = [(span, summary.user_id == caller.user_id) for summary, each in found for span in each]
    spans = sorted(own, key=lambda pair: pair[0].started_ns)
    return TraceDetail(
        trace_id=found[0][0].trace_id,
        at=began / _NS,
        seconds=(ended - began) / _NS,
        requests=[_line(summary, caller) for summary, _ in found],
        spans=[_span(span, began, is_own=is_own) for span, is_own in spans],
        conversation_id=_conversation(state, caller, [summary.receipt_id for summary, _ in found]),
    )


def _conversation(state: ServerState, caller: Principal, receipt_ids: list[str]) -> str | None:
    query = (
        select(MessageRow.conversation_id)
        .join(ConversationRow, ConversationRow.id == MessageRow.conversation_id)
        .where(
            ConversationRow.user_id == caller.user_id,
            ConversationRow.deleted_at.is_(None),
            MessageRow.receipt_id.in_([each for each in receipt_ids if each]),
        )
    )
    with state.registry.database.session(read_only=True) as session:
        return session.scalar(query.limit(1))


def _line(found: TraceSummary, caller: Principal) -> TraceLine:
    """A request as somebody sees it: a receipt opens for its owner alone."""
    outcome: Any = found.outcome
    return TraceLine(
        root_id=found.root_id,
        trace_id=found.trace_id,
        name=found.name,
        at=found.at,
        seconds=found.seconds,
        user_id=found.user_id,
        model=found.model,
        status=found.status,
        outcome=outcome,
        error=found.error,
        receipt_id=found.receipt_id if found.user_id == caller.user_id else "",
    )


def _span(span: FinishedSpan, began: int, *, is_own: bool) -> TraceSpan:
    kinds: dict[int, Any] = {1: "internal", 2: "server", 3: "client"}
    return TraceSpan(
        span_id=span.span_id,
        parent_id=span.parent_id,
        name=span.name,
        kind=kinds[span.kind],
        start=(span.started_ns - began) / _NS,
        seconds=max(0, span.ended_ns - span.started_ns) / _NS,
        attributes=span.attributes
        if is_own
        else {name: value for name, value in span.attributes.items() if name not in _RECEIPTS},
        error=span.error,
    )


def _sees_all(caller: Principal) -> bool:
    return Permission.READ_ALL_TRACES in permissions_of(caller)


def _place(text: str) -> tuple[float, str]:
    at, _, root_id = text.partition("_")
    try:
        return float(at), root_id
    except ValueError:
        raise InvalidRequestError(
            f"before is {text!r}, allowed: what `next` of a page says", param="before"
        ) from None
