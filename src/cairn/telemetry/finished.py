"""Traces that have ended, as they are stored and sent: made in the background, redacted."""

from dataclasses import dataclass
from typing import Literal

from cairn.telemetry.redaction import Redactor
from cairn.telemetry.spans import Attributes, Kind, Trace

Outcome = Literal["ok", "recovered", "refused", "failed", "aborted"]
"""`recovered`: something failed, and the answer came all the same; `aborted`: the client left."""
CLIENT_LEFT = 499
_NS = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedSpan:
    """A span that has ended. Times are Unix nanoseconds."""

    span_id: str
    parent_id: str
    name: str
    kind: Kind
    started_ns: int
    ended_ns: int
    attributes: Attributes
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedTrace:
    """One request's part of a trace."""

    root_id: str
    trace_id: str
    parent_id: str
    """The caller's span; empty where the trace began here."""
    name: str
    at: float
    seconds: float
    user_id: str
    key_id: str
    model: str
    status: int
    outcome: Outcome
    error: str
    receipt_id: str
    is_sampled: bool
    state: str
    num_dropped: int
    spans: tuple[FinishedSpan, ...]


def outcome_of(trace: Trace) -> Outcome:
    """How a request ended."""
    if trace.status == CLIENT_LEFT:
        return "aborted"
    if trace.status >= 500 or (trace.error and trace.status < 400):
        return "failed"
    if trace.status >= 400:
        return "refused"
    return "recovered" if any(span.error for span in trace.spans) else "ok"


def finished(trace: Trace, redactor: Redactor) -> FinishedTrace:
    """A trace as it is kept. A span that was left open ends with it, and says so."""
    root = trace.spans[0]
    offset = trace.started_at_ns - trace.started
    spans = []
    for span in trace.spans:
        attributes = redactor.attributes(span.attributes)
        if not span.ended:
            attributes = attributes | {"cairn.unfinished": True}
        spans.append(
            FinishedSpan(
                span_id=f"{span.span_id:016x}",
                parent_id=f"{span.parent_id:016x}" if span.parent_id else trace.parent_id,
                name=span.name,
                kind=span.kind,
                started_ns=span.started + offset,
                ended_ns=(span.ended or root.ended) + offset,
                attributes=attributes,
                error=span.error,
            )
        )
    return FinishedTrace(
        root_id=spans[0].span_id,
        trace_id=trace.trace_id,
        parent_id=trace.parent_id,
        name=root.name,
        at=trace.started_at_ns / _NS,
        seconds=(root.ended - root.started) / _NS,
        user_id=trace.user_id,
        key_id=trace.key_id,
        model=trace.model,
        status=trace.status,
        outcome=outcome_of(trace),
        error=trace.error,
        receipt_id=trace.receipt_id,
        is_sampled=trace.is_sampled,
        state=trace.state,
        num_dropped=trace.num_dropped,
        spans=tuple(spans),
    )
