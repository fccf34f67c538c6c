"""Trace contexts as the W3C's recommendation has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.telemetry import parse_traceparent
from cairn.telemetry.context import format_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "is_sampled"),
    [(f"00-{TRACE}-{SPAN}-01", True), (f"00-{TRACE}-{SPAN}-00", False), (f"cc-{TRACE}-{SPAN}-03-more", True)],
)
def test_what_is_right_is_read(text: str, is_sampled: bool) -> None:
    found = parse_traceparent(text, "a=1,b=2")
    assert found is not None
    assert (found.trace_id, found.parent_id, found.is_sampled) == (TRACE, SPAN, is_sampled)
    assert found.state == "a=1,b=2"


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}\n-{SPAN}-01",
    ],
)
def test_what_is_wrong_is_as_if_it_were_not_there(text: str) -> None:
    assert parse_traceparent(text) is None


@pytest.mark.parametrize("state", ["a\r\nx-evil: 1", "a" * 513, "ä=1"])
def test_a_state_that_cannot_be_a_header_is_left_out(state: str) -> None:
    found = parse_traceparent(f"00-{TRACE}-{SPAN}-01", state)
    assert found is not None
    assert found.state == ""


@given(st.text())
def test_nothing_breaks_it(text: str) -> None:
    found = parse_traceparent(text, text)
    assert found is None or format_traceparent(found.trace_id, found.parent_id, is_sampled=True)


def test_what_is_written_can_be_read() -> None:
    found = parse_traceparent(format_traceparent(TRACE, SPAN, is_sampled=False))
    assert found is not None
    assert (found.trace_id, found.parent_id, found.is_sampled) == (TRACE, SPAN, False)
