"""An OpenAI-shaped upstream: what is sent, and what its answers become."""

import json
from contextlib import aclosing
from dataclasses import replace

import pytest

from cairn.core.chat import (
    ChatEvent,
    ChatRequest,
    ChoiceEnd,
    ImagePart,
    Message,
    Principal,
    SamplingParams,
    StreamEnd,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    ToolDefinition,
    Usage,
    text_message,
)
from cairn.core.grammar import Grammar
from cairn.providers.protocol import CompletionRequest, PromptEcho
from cairn.providers.remote import RemoteProvider
from cairn.registry import Receipt
from tests.providers.remote.conftest import KEY, Remote
from tests.providers.remote.upstream import USAGE, FakeUpstream, said, streamed, text_chunk, whole

ASK = ChatRequest(model="route", messages=(text_message("user", "what marks the way?"),))
WEATHER = ToolDefinition(
    "weather", "of a town", {"type": "object", "properties": {"town": {"type": "string"}}}
)


async def events_of(provider: RemoteProvider, request: ChatRequest) -> list[ChatEvent]:
    async with aclosing(provider.stream(request)) as events:
        return [event async for event in events]


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_a_reply_is_the_same_streamed_and_whole(
    remote: Remote, upstream: FakeUpstream, receipts: list[Receipt], is_streamed: bool
) -> None:
    request = replace(ASK, is_streamed=is_streamed, request_id="rcpt_1", principal=Principal("ann"))
    events = await events_of(remote(), request)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "stones mark"
    assert events[-2:] == [ChoiceEnd(0, "stop"), StreamEnd(Usage(7, 3, 4), "rcpt_1")]
    (asked,) = upstream.asked
    assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.body.get("stream", False) is is_streamed
    assert not {"temperature", "top_p", "max_tokens", "user", "n"} & asked.body.keys()
    (receipt,) = receipts
    assert (receipt.receipt_id, receipt.user_id, receipt.finish_reasons) == ("rcpt_1", "ann", ["stop"])
    assert receipt.runner["provider"] == "quarry"
    assert receipt.runner["upstream_model"] == "stone-1"
    assert receipt.request["replies"] == ["stones mark"]
    assert KEY not in repr(receipt)


async def test_only_what_the_caller_chose_is_sent(remote: Remote, upstream: FakeUpstream) -> None:
    sampling = SamplingParams(
        temperature=1.0, top_p=0.5, seed=3, max_tokens=9, stop=("\n",), logit_bias={5: 1.0}
    )
    await events_of(remote(), replace(ASK, sampling=sampling, given=frozenset({"temperature", "seed"})))
    body = upstream.asked[0].body
    assert body["temperature"] == 1.0
    assert body["seed"] == 3
    assert "top_p" not in body  # a default of somebody here, not the caller's wish
    assert (body["max_tokens"], body["stop"], body["logit_bias"]) == (9, ["\n"], {"5": 1.0})
    await events_of(remote(max_tokens_field="max_completion_tokens"), replace(ASK, sampling=sampling))
    assert upstream.asked[1].body["max_completion_tokens"] == 9
    assert upstream.asked[1].body["top_p"] == 0.5


async def test_a_conversation_goes_out_whole(remote: Remote, upstream: FakeUpstream) -> None:
    picture = ImagePart("data:image/png;base64,AAAA")
    call = ToolCall("call_1", "weather", '{"town":"Bern"}')
    request = replace(
        ASK,
        messages=(
            text_message("system", "be short"),
            Message("user", (TextPart("look"), picture)),
            Message("assistant", tool_calls=(call,)),
            Message("tool", (TextPart("rain"),), tool_call_id="call_1"),
        ),
        tools=(WEATHER,),
        tool_choice="weather",
        parallel_tool_calls=False,
        template_options={"reasoning_effort": "low", "enable_thinking": False},
        sampling=SamplingParams(grammar=Grammar.json_schema({"type": "object"}), logprobs=2, n=1),
    )
    await events_of(remote(), request)
    body = upstream.asked[0].body
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "tool"]
    assert body["messages"][1]["content"][1] == {"type": "image_url", "image_url": {"url": picture.url}}
    assert body["messages"][2]["tool_calls"][0]["function"] == {
        "name": "weather",
        "arguments": call.arguments,
    }
    assert body["messages"][2]["content"] is None
    assert body["messages"][3]["tool_call_id"] == "call_1"
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert body["tools"][0]["function"]["parameters"] == WEATHER.parameters
    assert body["parallel_tool_calls"] is False
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)
    assert (body["reasoning_effort"], body["chat_template_kwargs"]) == ("low", {"enable_thinking": False})


@pytest.mark.parametrize(
    ("grammar", "field"),
    [
        (Grammar("json_object"), {"response_format": {"type": "json_object"}}),
        (Grammar("regex", "a+"), {"structured_outputs": {"regex": "a+"}}),
        (Grammar("ebnf", "root ::= 'a'"), {"structured_outputs": {"grammar": "root ::= 'a'"}}),
        (Grammar.choice(["a", "b"]), {"structured_outputs": {"choice": ["a", "b"]}}),
    ],
)
async def test_constraints_in_the_fields_of_those_who_know_them(
    remote: Remote, upstream: FakeUpstream, grammar: Grammar, field: dict[str, object]
) -> None:
    await events_of(remote(), replace(ASK, sampling=SamplingParams(grammar=grammar)))
    assert upstream.asked[0].body.items() >= field.items()


def _part(index: int, **call: object) -> dict[str, object]:
    return {
        "choices": [{"index": 0, "delta": {"tool_calls": [{"index": index, **call}]}, "finish_reason": None}]
    }


async def test_parallel_calls_are_put_together_from_pieces(remote: Remote, upstream: FakeUpstream) -> None:
    upstream.behave = streamed(
        [
            _part(0, id="a", function={"name": "weather", "arguments": '{"town"'}),
            _part(0, function={"arguments": ':"Bern"}'}),
            _part(1, id="b", function={"name": "weather", "arguments": "{}"}),
            text_chunk("", "tool_calls"),
        ]
    )
    events = await events_of(remote(), replace(ASK, tools=(WEATHER,)))
    assert events[:2] == [
        ToolCallDelta(0, 0, ToolCall("a", "weather", '{"town":"Bern"}')),
        ToolCallDelta(0, 1, ToolCall("b", "weather", "{}")),
    ]
    assert ChoiceEnd(0, "tool_calls") in events


async def test_calls_and_several_choices_of_a_whole_answer(remote: Remote, upstream: FakeUpstream) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    value = said("one")
    value["choices"].append(
        {
            "index": 1,
            "message": {"content": None, "tool_calls": [call, call | {"id": "b"}]},
            "finish_reason": "tool_calls",
        }
    )
    upstream.behave = whole(value)
    events = await events_of(remote(), replace(ASK, is_streamed=False, sampling=SamplingParams(n=2)))
    assert [event for event in events if isinstance(event, ToolCallDelta)] == [
        ToolCallDelta(1, 0, ToolCall("a", "weather", "{}")),
        ToolCallDelta(1, 1, ToolCall("b", "weather", "{}")),
    ]


async def test_logprobs_and_reasons(remote: Remote, upstream: FakeUpstream) -> None:
    token = {
        "token": "é",
        "logprob": -0.5,
        "bytes": [195, 169],
        "top_logprobs": [{"token": "e", "logprob": -1.0}],
    }
    chunk = text_chunk("é", "content_filter")
    chunk["choices"][0]["logprobs"] = {"content": [token]}
    upstream.behave = streamed([chunk])
    first, end, _ = await events_of(remote(), ASK)
    assert isinstance(first, TextDelta)
    assert (first.logprobs[0].raw_bytes, first.logprobs[0].logprob) == ("é".encode(), -0.5)
    assert first.logprobs[0].top[0].token == "e"
    assert end == ChoiceEnd(0, "content_filter")


async def test_usage_is_estimated_where_none_is_given(remote: Remote, upstream: FakeUpstream) -> None:
    upstream.behave = streamed([text_chunk("x" * 40, "length")])
    *_, end = await events_of(remote(), ASK)
    assert isinstance(end, StreamEnd)
    assert end.usage == Usage(5, 11)


async def test_a_plain_prompt_goes_on(remote: Remote, upstream: FakeUpstream) -> None:
    logprobs = {"tokens": ["x"], "token_logprobs": [-0.25], "top_logprobs": [{"y": -2.0}], "text_offset": [0]}
    choice = {"index": 0, "text": "x", "logprobs": logprobs, "finish_reason": "length"}
    upstream.behave = whole({"choices": [choice], "usage": USAGE})
    request = CompletionRequest(
        model="route",
        prompt="stones ",
        echo=True,
        is_streamed=False,
        sampling=SamplingParams(max_tokens=1, logprobs=1),
    )
    async with aclosing(remote(max_tokens_field="max_completion_tokens").complete(request)) as stream:
        events = [event async for event in stream]
    assert events[0] == PromptEcho("stones ", ())
    assert isinstance(events[1], TextDelta)
    assert (events[1].text, events[1].logprobs[0].logprob) == ("x", -0.25)
    body = upstream.asked[0].body
    assert (body["prompt"], body["max_tokens"], body["logprobs"]) == ("stones ", 1, 1)
    assert "echo" not in body


async def test_embeddings_in_the_order_of_the_texts(remote: Remote, upstream: FakeUpstream) -> None:
    rows = [{"index": 1, "embedding": [0.0, 1.0]}, {"index": 0, "embedding": [1.0, 0.0]}]
    upstream.behave = whole({"data": rows, "usage": {"prompt_tokens": 4}})
    found = await remote().embed(["a", "b"], 2)
    assert found.vectors.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert found.num_tokens == 4
    assert upstream.asked[0].body["dimensions"] == 2


async def test_connections_are_used_again(remote: Remote, upstream: FakeUpstream) -> None:
    provider = remote()
    for is_streamed in (True, False, True):
        await events_of(provider, replace(ASK, is_streamed=is_streamed))
    assert upstream.num_connections == 1
    assert len(upstream.asked) == 3


async def test_check_lists_the_models(remote: Remote, upstream: FakeUpstream) -> None:
    upstream.behave = whole({"data": [{"id": "stone-1"}, {"id": "stone-2"}]})
    assert await remote().check() == ["stone-1", "stone-2"]
    assert (upstream.asked[0].method, upstream.asked[0].path) == ("GET", "/v1/models")
    assert json.dumps(upstream.asked[0].body) == "{}"
