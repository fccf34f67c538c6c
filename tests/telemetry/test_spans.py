"""Spans: who is within whom, what is remembered, and that nothing happens where nothing is recorded."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from cairn.core.errors import OverloadedError
from cairn.telemetry import NULL, Span, Trace, current
from cairn.telemetry.finished import finished
from cairn.telemetry.redaction import Redactor
from cairn.telemetry.spans import MOST_SPANS, SERVER


def root() -> Span:
    return Span(Trace(), "POST", 0, SERVER, None)


def test_nothing_is_recorded_by_default() -> None:
    span = current()
    assert span is NULL
    with span.child("a") as inner, inner.child("b", {"x": 1}) as innermost:
        innermost.set("y", 2)
        innermost.note(model="m")
        innermost.fail(ValueError())
        innermost.add("c", 1, 2)
    assert not innermost
    assert (innermost.traceparent(), innermost.trace_id) == ("", "")
    assert NULL.trace.spans == []
    assert NULL.trace.model == ""


async def test_the_parent_is_handed_down_to_tasks_and_threads() -> None:
    top = root()

    def in_thread() -> None:
        with current().child("thread"):
            pass

    async def in_task() -> None:
        with current().child("task"):
            await asyncio.to_thread(in_thread)

    with top:
        await asyncio.gather(in_task(), in_task())
    assert current() is NULL
    names = {span.span_id: span.name for span in top.trace.spans}
    parents = sorted((span.name, names.get(span.parent_id)) for span in top.trace.spans[1:])
    assert parents == [("task", "POST"), ("task", "POST"), ("thread", "task"), ("thread", "task")]


async def test_a_generator_hands_down_its_span_and_leaves_its_readers_alone() -> None:
    top = root()

    async def inner() -> AsyncIterator[int]:
        current().child("inner").end()
        yield 1
        yield 2

    async def outer() -> AsyncIterator[int]:
        span, events = current().child("outer"), inner()
        with span.active():
            first = await anext(events)
        yield first
        async for each in events:
            yield each
        span.end()

    with top:
        async for _ in outer():
            assert current() is top
    outermost, innermost = top.trace.spans[1:]
    assert (outermost.name, innermost.name) == ("outer", "inner")
    assert innermost.parent_id == outermost.span_id


def test_a_failure_is_its_code_and_never_its_message() -> None:
    top = root()
    with pytest.raises(OverloadedError), top.child("a"):
        raise OverloadedError("my secret question was refused")
    with pytest.raises(KeyError), top.child("b"):
        raise KeyError("secret")
    top.end()
    assert [span.error for span in top.trace.spans] == ["", "overloaded", "KeyError"]
    assert "secret" not in repr(finished(top.trace, Redactor()))


def test_a_trace_is_bounded_and_says_what_is_missing() -> None:
    top = root()
    for _ in range(MOST_SPANS + 10):
        top.child("one").end()
    top.end()
    kept = finished(top.trace, Redactor())
    assert (len(kept.spans), kept.num_dropped) == (MOST_SPANS, 11)


def test_what_is_left_open_ends_with_the_trace() -> None:
    top = root()
    top.child("open")
    top.end()
    whole, left = finished(top.trace, Redactor()).spans
    assert left.ended_ns == whole.ended_ns
    assert left.attributes == {"cairn.unfinished": True}
    assert whole.attributes == {}
    top.trace.is_over = True
    assert top.child("late") is NULL
