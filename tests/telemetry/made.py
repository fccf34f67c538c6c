"""Traces as they are kept, made for tests."""

import time
from dataclasses import replace
from secrets import token_hex
from typing import Any

from cairn.telemetry.finished import FinishedSpan, FinishedTrace


def span(name: str, parent_id: str = "", **values: Any) -> FinishedSpan:
    found = FinishedSpan(
        span_id=token_hex(8),
        parent_id=parent_id,
        name=name,
        kind=1,
        started_ns=1_700_000_000_000_000_001,
        ended_ns=1_700_000_000_250_000_001,
        attributes={},
    )
    return replace(found, **values)


def trace(**values: Any) -> FinishedTrace:
    root = span("POST /v1/chat/completions", kind=2)
    found = FinishedTrace(
        root_id=root.span_id,
        trace_id=token_hex(16),
        parent_id="",
        name=root.name,
        at=time.time(),
        seconds=0.25,
        user_id="ann",
        key_id="",
        model="stone",
        status=200,
        outcome="ok",
        error="",
        receipt_id="",
        is_sampled=True,
        state="",
        num_dropped=0,
        spans=(root,),
    )
    return replace(found, **values)
