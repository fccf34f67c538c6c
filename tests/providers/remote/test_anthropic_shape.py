"""An Anthropic-shaped upstream: what is sent, and what its events become."""

from dataclasses import replace
from typing import Any

import pytest

from cairn.core.chat import (
    ChoiceEnd,
    ImagePart,
    Message,
    SamplingParams,
    StreamEnd,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    Usage,
    text_message,
)
from cairn.core.grammar import Grammar
from cairn.providers.protocol import CompletionRequest
from cairn.providers.remote.errors import (
    UnfitTargetError,
    UpstreamGarbageError,
    UpstreamOverloadedError,
    UpstreamUnavailableError,
    worth,
)
from tests.providers.remote.conftest import KEY, Remote
from tests.providers.remote.test_openai_shape import ASK, WEATHER, events_of
from tests.providers.remote.upstream import FakeUpstream, streamed, whole

USAGE = {
    "input_tokens": 5,
    "cache_read_input_tokens": 2,
    "cache_creation_input_tokens": 1,
    "output_tokens": 1,
}
START = {"type": "message_start", "message": {"id": "msg_1", "model": "stone-2", "usage": USAGE}}
STOP = {"type": "message_stop"}


def _delta(**delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": delta}


def _ended(reason: str) -> dict[str, Any]:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": None},
        "usage": {"output_tokens": 9},
    }


SPOKEN = [
    START,
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    _delta(type="text_delta", text="stones "),
    _delta(type="thinking_delta", thinking="hm"),
    _delta(type="text_delta", text="mark"),
    {"type": "content_block_stop", "index": 0},
    _ended("end_turn"),
    STOP,
]


async def test_a_stream(remote: Remote, upstream: FakeUpstream) -> None:
    upstream.behave = streamed(SPOKEN, is_done=False)
    events = await events_of(remote(kind="anthropic"), replace(ASK, request_id="rcpt_1"))
    assert events == [
        TextDelta(0, "stones "),
        TextDelta(0, "mark"),
        ChoiceEnd(0, "stop"),
        StreamEnd(Usage(8, 9, 2), "rcpt_1"),
    ]
    (asked,) = upstream.asked
    assert (asked.path, asked.headers["x-api-key"]) == ("/v1/messages", KEY)
    assert asked.headers["anthropic-version"] == "2023-06-01"
    assert asked.body == {
        "model": "stone-1",
        "max_tokens": 4096,
        "stream": True,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "what marks the way?"}]}],
    }


async def test_calls_of_a_stream(remote: Remote, upstream: FakeUpstream) -> None:
    events: list[Any] = [START]
    for call_id, pieces in (("a", ['{"town"', ':"Bern"}']), ("b", [])):
        block = {"type": "tool_use", "id": call_id, "name": "weather", "input": {}}
        events.append({"type": "content_block_start", "index": 0, "content_block": block})
        events += [_delta(type="input_json_delta", partial_json=piece) for piece in pieces]
        events.append({"type": "content_block_stop", "index": 0})
    upstream.behave = streamed([*events, _ended("tool_use"), STOP], is_done=False)
    found = await events_of(remote(kind="anthropic"), replace(ASK, tools=(WEATHER,), tool_choice="required"))
    assert found[:3] == [
        ToolCallDelta(0, 0, ToolCall("a", "weather", '{"town":"Bern"}')),
        ToolCallDelta(0, 1, ToolCall("b", "weather", "{}")),
        ChoiceEnd(0, "tool_calls"),
    ]
    assert upstream.asked[0].body["tool_choice"] == {"type": "any"}


async def test_a_whole_answer(remote: Remote, upstream: FakeUpstream) -> None:
    content = [
        {"type": "text", "text": "look: "},
        {"type": "tool_use", "id": "a", "name": "weather", "input": {"town": "Bern"}},
    ]
    value = {"type": "message", "id": "msg_1", "content": content, "stop_reason": "refusal", "usage": USAGE}
    upstream.behave = whole(value)
    events = await events_of(remote(kind="anthropic"), replace(ASK, is_streamed=False))
    assert events[:3] == [
        TextDelta(0, "look: "),
        ToolCallDelta(0, 0, ToolCall("a", "weather", '{"town": "Bern"}')),
        ChoiceEnd(0, "content_filter"),
    ]


async def test_a_conversation_goes_out_whole(remote: Remote, upstream: FakeUpstream) -> None:
    upstream.behave = streamed(SPOKEN, is_done=False)
    calls = (ToolCall("a", "weather", '{"town":"Bern"}'), ToolCall("b", "weather", "{}"))
    request = replace(
        ASK,
        messages=(
            text_message("system", "be short"),
            Message("user", (TextPart("look"), ImagePart("data:image/png;base64,AAAA"))),
            Message("assistant", (TextPart("well"),), tool_calls=calls),
            Message("tool", (TextPart("rain"),), tool_call_id="a"),
            Message("tool", (TextPart("sun"),), tool_call_id="b"),
        ),
        tools=(WEATHER,),
        tool_choice="weather",
        parallel_tool_calls=False,
        sampling=SamplingParams(
            max_tokens=7,
            temperature=0.3,
            top_k=4,
            stop=("x",),
            grammar=Grammar.json_schema({"type": "object"}),
        ),
    )
    await events_of(remote(kind="anthropic"), request)
    body = upstream.asked[0].body
    assert body["system"] == "be short"
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    assert body["messages"][0]["content"][1] == {"type": "image", "source": source}
    assert body["messages"][1]["content"][1] == {
        "type": "tool_use",
        "id": "a",
        "name": "weather",
        "input": {"town": "Bern"},
    }
    assert [part["tool_use_id"] for part in body["messages"][2]["content"]] == ["a", "b"]
    assert body["tool_choice"] == {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    assert (body["max_tokens"], body["temperature"], body["top_k"]) == (7, 0.3, 4)
    assert body["stop_sequences"] == ["x"]
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    ("sampling", "name"),
    [
        (SamplingParams(n=2), "n"),
        (SamplingParams(logprobs=1), "logprobs"),
        (SamplingParams(temperature=1.5), "temperature above 1"),
        (SamplingParams(presence_penalty=1), "presence_penalty"),
        (SamplingParams(grammar=Grammar("regex", "a")), "response_format"),
    ],
)
async def test_what_it_cannot_do_is_for_another_target(
    remote: Remote, upstream: FakeUpstream, sampling: SamplingParams, name: str
) -> None:
    with pytest.raises(UnfitTargetError, match=name) as caught:
        await events_of(remote(kind="anthropic"), replace(ASK, sampling=sampling))
    assert worth(caught.value) == "elsewhere"
    assert upstream.asked == []


async def test_plain_prompts_are_for_another_target(remote: Remote) -> None:
    with pytest.raises(UnfitTargetError):
        await anext(remote(kind="anthropic").complete(CompletionRequest(model="x", prompt="a")))
    with pytest.raises(UnfitTargetError):
        await remote(kind="anthropic").embed(["a"])


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        (SPOKEN[:4], UpstreamUnavailableError),
        ([START, STOP], UpstreamGarbageError),
        ([{"type": "message_start"}], UpstreamGarbageError),
        ([START, _delta(type="text_delta")], UpstreamGarbageError),
        (
            [START, {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}],
            UpstreamOverloadedError,
        ),
        ([START, {"type": "error", "error": {"type": "api_error"}}], UpstreamUnavailableError),
    ],
)
async def test_a_stream_that_breaks(
    remote: Remote, upstream: FakeUpstream, events: list[Any], kind: type[Exception]
) -> None:
    upstream.behave = streamed(events, is_done=False)
    with pytest.raises(kind):
        await events_of(remote(kind="anthropic"), ASK)
