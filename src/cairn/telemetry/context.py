"""W3C trace context: what a caller says of the trace that its request is part of, and what the next is told.

Source: W3C Recommendation "Trace Context", level 1. What does not parse is as if it were not there, as the
recommendation has it; of a later version the parts of this one are read.
"""

import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_MOST_STATE = 512
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The trace that a request continues."""

    trace_id: str
    parent_id: str
    is_sampled: bool = True
    state: str = ""
    """`tracestate`, which is passed on as it came."""


def parse_traceparent(traceparent: str, tracestate: str = "") -> TraceContext | None:
    """What the headers say; None when they say nothing that can be read."""
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    is_plain = tracestate.isprintable() and tracestate.isascii() and len(tracestate) <= _MOST_STATE
    return TraceContext(
        trace_id, parent_id, bool(int(flags, 16) & _SAMPLED), tracestate.strip() if is_plain else ""
    )


def format_traceparent(trace_id: str, span_id: str, *, is_sampled: bool) -> str:
    """The header that makes whoever gets it a child of a span."""
    return f"00-{trace_id}-{span_id}-{'01' if is_sampled else '00'}"
