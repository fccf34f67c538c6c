"""Upstreams that hang, break off, talk nonsense or refuse: each a clear error that says what it is worth."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from cairn.core.chat import ChatRequest, TextDelta, text_message
from cairn.core.errors import ContextLengthError, InvalidRequestError, OverloadedError, UnavailableError
from cairn.providers.remote import UpstreamError
from cairn.providers.remote.errors import (
    UpstreamContextError,
    UpstreamGarbageError,
    UpstreamNotAllowedError,
    UpstreamOverloadedError,
    UpstreamRequestError,
    UpstreamUnavailableError,
    worth,
)
from cairn.providers.remote.events import EventParser
from cairn.registry import Receipt
from tests.providers.remote.conftest import KEY, Remote
from tests.providers.remote.test_openai_shape import ASK, events_of
from tests.providers.remote.upstream import (
    Asked,
    Behave,
    FakeUpstream,
    hang,
    head,
    raw,
    said,
    speak,
    streamed,
    text_chunk,
    whole,
)


def _refused(message: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "x", "code": code}}


@pytest.mark.parametrize(
    ("status", "value", "headers", "kind", "value_of"),
    [
        (400, _refused("no such field"), {}, UpstreamRequestError, "no"),
        (422, {"message": "bad"}, {}, UpstreamRequestError, "no"),
        (400, _refused("too long", "context_length_exceeded"), {}, UpstreamContextError, "elsewhere"),
        (401, _refused(f"Incorrect API key provided: {KEY}"), {}, UpstreamNotAllowedError, "elsewhere"),
        (403, _refused("no access"), {}, UpstreamNotAllowedError, "elsewhere"),
        (404, _refused("no model"), {}, UpstreamNotAllowedError, "elsewhere"),
        (429, _refused("slow down"), {"retry-after": "7"}, UpstreamOverloadedError, "again"),
        (503, _refused("busy"), {"retry-after": "2"}, UpstreamOverloadedError, "again"),
        (529, _refused("overloaded"), {}, UpstreamOverloadedError, "again"),
        (500, b"<html>oops</html>", {}, UpstreamUnavailableError, "again"),
        (503, _refused("down"), {}, UpstreamUnavailableError, "again"),
        (302, b"", {"location": "http://elsewhere/"}, UpstreamUnavailableError, "again"),
    ],
)
@pytest.mark.parametrize("is_streamed", [True, False])
async def test_every_status_has_its_error(
    remote: Remote,
    upstream: FakeUpstream,
    status: int,
    value: Any,
    headers: dict[str, str],
    kind: type[UpstreamError],
    value_of: str,
    is_streamed: bool,
) -> None:
    upstream.behave = whole(value, status, headers)
    with pytest.raises(kind) as caught:
        await events_of(remote(), replace(ASK, is_streamed=is_streamed))
    assert type(caught.value) is kind
    assert worth(caught.value) == value_of
    assert "quarry" in caught.value.message
    assert KEY not in caught.value.sentence
    assert len(upstream.asked) == 1  # nothing here tries twice
    if isinstance(caught.value, UnavailableError) and "retry-after" in headers:
        assert caught.value.retry_after == float(headers["retry-after"])


def test_the_tree_is_the_core_s() -> None:
    assert issubclass(UpstreamRequestError, InvalidRequestError)
    assert issubclass(UpstreamContextError, ContextLengthError)
    assert issubclass(UpstreamOverloadedError, OverloadedError)
    assert issubclass(UpstreamUnavailableError, UnavailableError)
    assert worth(OverloadedError("full")) == "again"
    assert worth(InvalidRequestError("wrong")) == "no"
    assert worth(ContextLengthError("long")) == "elsewhere"


async def test_a_key_that_an_upstream_repeats_is_taken_out(remote: Remote, upstream: FakeUpstream) -> None:
    upstream.behave = whole(_refused(f"the header Bearer {KEY} is odd"), 400)
    with pytest.raises(UpstreamRequestError) as caught:
        await events_of(remote(), ASK)
    assert KEY not in str(caught.value)
    assert "***" in caught.value.message


@pytest.mark.parametrize(
    ("behave", "kind"),
    [
        (raw(b""), UpstreamUnavailableError),
        (raw(b"\x16\x03\x01 this is not HTTP\r\n\r\n"), UpstreamGarbageError),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 70_000 + b"\r\n\r\n"), UpstreamGarbageError),
        (raw(head(200, {"content-length": "50"}) + b'{"choices"'), UpstreamUnavailableError),
        (whole(b"not json"), UpstreamGarbageError),
        (whole(b'["a list"]'), UpstreamGarbageError),
        (whole(b"[" * 100_000), UpstreamGarbageError),
        (whole({"choices": "none"}), UpstreamGarbageError),
        (whole({"choices": [7]}), UpstreamGarbageError),
        (whole({}), UpstreamUnavailableError),
        (whole({"choices": [{"index": 0, "message": {"content": "x"}}]}), UpstreamUnavailableError),
        (whole({"error": {"message": "it broke", "code": 503}}), UpstreamUnavailableError),
    ],
)
async def test_nonsense_for_a_whole_answer(
    remote: Remote, upstream: FakeUpstream, receipts: list[Receipt], behave: Behave, kind: type[UpstreamError]
) -> None:
    upstream.behave = behave
    with pytest.raises(kind):
        await events_of(remote(), replace(ASK, is_streamed=False))
    assert receipts == []


@pytest.mark.parametrize(
    ("behave", "kind"),
    [
        (streamed([]), UpstreamUnavailableError),
        (streamed([text_chunk("a")], is_done=False, is_cut=True), UpstreamUnavailableError),
        (streamed([text_chunk("a")], is_done=False), UpstreamUnavailableError),
        (streamed([text_chunk("a")]), UpstreamUnavailableError),
        (streamed([text_chunk("a"), b"data: {broken\n\n"]), UpstreamGarbageError),
        (streamed([text_chunk("a"), b"data: 7\n\n"]), UpstreamGarbageError),
        (streamed([text_chunk("a"), {"choices": [{"delta": {"tool_calls": 3}}]}]), UpstreamGarbageError),
        (streamed([text_chunk("a"), b"data: " + b"x" * 5_000_000]), UpstreamGarbageError),
        (streamed([text_chunk("a"), {"error": {"message": "out of memory"}}]), UpstreamUnavailableError),
        (raw(head(200, {"transfer-encoding": "chunked"}) + b"zz\r\n"), UpstreamGarbageError),
    ],
)
async def test_a_stream_that_breaks(
    remote: Remote, upstream: FakeUpstream, behave: Behave, kind: type[UpstreamError]
) -> None:
    upstream.behave = behave
    with pytest.raises(kind):
        await events_of(remote(), ASK)
    upstream.behave = speak  # and the next request is not touched by it
    assert len(await events_of(remote(), ASK)) == 4


async def test_what_was_said_before_a_break_has_its_receipt(
    remote: Remote, upstream: FakeUpstream, receipts: list[Receipt]
) -> None:
    upstream.behave = streamed([text_chunk("half ")], is_done=False, is_cut=True)
    with pytest.raises(UpstreamUnavailableError):
        await events_of(remote(), ASK)
    (receipt,) = receipts
    assert (receipt.request["replies"], receipt.finish_reasons) == (["half "], ["abort"])


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_silence_before_the_answer(remote: Remote, upstream: FakeUpstream, is_streamed: bool) -> None:
    upstream.behave = hang
    with pytest.raises(UpstreamUnavailableError, match="nothing for too long"):
        await events_of(
            remote(first_token_seconds=0.05, whole_seconds=0.1), replace(ASK, is_streamed=is_streamed)
        )


async def test_silence_after_the_head_and_within_the_stream(remote: Remote, upstream: FakeUpstream) -> None:
    begun = head(200, {"transfer-encoding": "chunked"})
    upstream.line = [raw(begun, closes=False), hang]
    with pytest.raises(UpstreamUnavailableError, match="nothing for too long"):
        await events_of(remote(first_token_seconds=0.05), ASK)
    event = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
    upstream.line = [raw(begun + b"%x\r\n%s\r\n" % (len(event), event), closes=False)]
    stream = remote(between_tokens_seconds=0.05).stream(ASK)
    assert await anext(stream) == TextDelta(0, "a")
    with pytest.raises(UpstreamUnavailableError, match="nothing for too long"):
        await anext(stream)


async def test_a_stream_that_never_ends_meets_the_whole_limit(remote: Remote, upstream: FakeUpstream) -> None:
    async def drip(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, {"transfer-encoding": "chunked"}))
        while not writer.is_closing():
            event = f"data: {json.dumps(text_chunk('a'))}\n\n".encode()
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await asyncio.sleep(0.005)

    upstream.behave = drip
    with pytest.raises(UpstreamUnavailableError, match="nothing for too long"):
        await events_of(remote(whole_seconds=0.2), ASK)


async def test_nobody_listens(remote: Remote) -> None:
    with pytest.raises(UpstreamUnavailableError, match="cannot be reached"):
        await events_of(remote(base_url="http://127.0.0.1:9/v1"), ASK)


async def test_a_connection_closed_while_idle_is_replaced(remote: Remote, upstream: FakeUpstream) -> None:
    async def answer_and_close(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await whole(said("stones mark"))(asked, writer)  # promises to keep the connection, and does not
        writer.close()

    provider = remote()
    upstream.behave = answer_and_close
    for _ in range(3):
        await events_of(provider, replace(ASK, is_streamed=False))
    assert upstream.num_connections == 3


async def test_an_answer_nobody_asked_for_is_no_later_one_s(remote: Remote, upstream: FakeUpstream) -> None:
    async def twice(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await whole(said("the first"))(asked, writer)
        await whole(said("smuggled"))(asked, writer)

    provider = remote()
    upstream.line = [twice]
    for _ in range(2):
        events = []
        try:
            events = await events_of(provider, replace(ASK, is_streamed=False))
        except UpstreamGarbageError:
            continue
        assert TextDelta(0, "smuggled") not in events


async def test_leaving_ends_the_upstream_s_request(
    remote: Remote, upstream: FakeUpstream, receipts: list[Receipt]
) -> None:
    event = f"data: {json.dumps(text_chunk('a'))}\n\n".encode()
    begun = head(200, {"transfer-encoding": "chunked"})
    upstream.behave = raw(begun + b"%x\r\n%s\r\n" % (len(event), event), closes=False)
    provider = remote()
    stream = provider.stream(ASK)
    assert await anext(stream) == TextDelta(0, "a")
    assert provider.load().running == 1
    await stream.aclose()
    assert provider.load().running == 0
    assert receipts[0].finish_reasons == ["abort"]
    for _ in range(1000):
        if not upstream.num_open:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the connection stayed")


async def test_connections_are_bounded(remote: Remote, upstream: FakeUpstream) -> None:
    upstream.behave = hang
    provider = remote(max_connections=1, connect_seconds=0.1)
    waiting = asyncio.create_task(events_of(provider, ASK))
    while not upstream.asked:
        await asyncio.sleep(0.01)
    with pytest.raises(UpstreamOverloadedError, match="all 1 connections"):
        await events_of(provider, ASK)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    upstream.behave = speak
    assert await events_of(provider, ASK)


async def test_a_key_that_is_not_there(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STONE_KEY")
    with pytest.raises(UpstreamNotAllowedError, match="STONE_KEY"):
        remote()
    monkeypatch.setenv("STONE_KEY", "two\nlines")
    with pytest.raises(UpstreamNotAllowedError, match="characters") as caught:
        remote()
    assert "two" not in str(caught.value)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_events_are_the_same_however_they_are_cut(cut: int) -> None:
    data = b': hello\r\ndata: {"a":\ndata: 1}\r\n\r\nevent: x\nid: 3\ndata:second\n\ndata: \xc3\xa9\n\n'
    parser = EventParser()
    found = [each for start in range(0, len(data), cut) for each in parser.push(data[start : start + cut])]
    assert found == [b'{"a":\n1}', b"second", "é".encode()]


async def test_the_request_is_not_changed_by_being_asked(remote: Remote) -> None:
    request = ChatRequest(model="route", messages=(text_message("user", "a"),))
    await events_of(remote(), request)
    assert request == ChatRequest(model="route", messages=(text_message("user", "a"),))
