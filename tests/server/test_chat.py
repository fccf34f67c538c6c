"""Chat with the official client: whole and streamed, tools, log-probabilities, choices, errors."""

import gc
import json
from typing import Any

import openai
import pytest
from fastapi import Request

from cairn.registry import Registry
from tests.server.conftest import REPLY, Running, Script, Serve

ASK: dict[str, Any] = {
    "model": "scripted",
    "messages": [{"role": "user", "content": "where to?"}],
    "temperature": 0,
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call>'


def test_a_whole_answer(server: Running, registry: Registry) -> None:
    raw = server.client().chat.completions.with_raw_response.create(**ASK)
    answer = raw.parse()
    assert answer.choices[0].message.content == REPLY
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.system_fingerprint == "cairn_5c5c5c5c5c5c"
    assert answer.object == "chat.completion"
    assert raw.headers["x-cairn-receipt"].startswith("rcpt_")
    assert answer.model_extra == {"cairn": {"receipt": raw.headers["x-cairn-receipt"]}}


def test_a_streamed_answer(serve: Serve, script: Script, registry: Registry) -> None:
    server = serve(script())
    options: Any = {"include_usage": True}
    raw = server.client().chat.completions.with_raw_response.create(
        **ASK, stream=True, stream_options=options
    )
    chunks = list(raw.parse())
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == REPLY
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].choices == []
    receipt_id = raw.headers["x-cairn-receipt"]
    assert chunks[-1].model_extra == {"cairn": {"receipt": receipt_id}}
    assert all("cairn" not in (chunk.model_extra or {}) for chunk in chunks[:-1])
    receipt = registry.receipt(receipt_id)
    assert receipt.user_id == "admin"
    assert chunks[-1].usage.completion_tokens == len(receipt.outputs[0])


def test_without_usage_the_last_choice_chunk_carries_the_receipt(server: Running) -> None:
    chunks = list(server.client().chat.completions.create(**ASK, stream=True))
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert "cairn" in (chunks[-1].model_extra or {})
    assert all(chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_request_leaves_nothing_for_the_collector(server: Running, is_streamed: bool) -> None:
    """A cycle of each request would be a pause of many."""

    def num_left() -> int:
        return sum(type(each) is Request for each in gc.get_objects())

    def ask() -> None:
        answer = server.client().chat.completions.create(**ASK, stream=is_streamed)
        if is_streamed:
            list(answer)

    ask()
    gc.collect()
    before = num_left()
    gc.disable()
    try:
        for _ in range(5):
            ask()
        server.wait_until(lambda: num_left() <= before)
    finally:
        gc.enable()


async def test_the_async_client(server: Running) -> None:
    async with server.async_client() as client:
        stream = await client.chat.completions.create(**ASK, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == REPLY


def test_choices_and_log_probabilities(server: Running) -> None:
    answer = server.client().chat.completions.create(**ASK, n=2, logprobs=True, top_logprobs=3)
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        assert choice.message.content == REPLY
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        tokens = choice.logprobs.content
        assert all(len(token.top_logprobs) == 3 and token.logprob <= 0 for token in tokens)
        assert bytes(byte for token in tokens[:-1] for byte in token.bytes or []).decode() == REPLY


def test_streamed_choices_are_told_apart(server: Running) -> None:
    texts = {0: "", 1: ""}
    for chunk in server.client().chat.completions.create(**ASK, n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == {0: REPLY, 1: REPLY}


def test_stop_and_length(server: Running) -> None:
    client = server.client()
    stopped = client.chat.completions.create(**ASK, stop=["the"]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == ("stones mark ", "stop")
    cut = client.chat.completions.create(**ASK, max_completion_tokens=1).choices[0]
    assert cut.finish_reason == "length"


def test_tools(serve: Serve, script: Script) -> None:
    client = serve(script(CALL)).client()
    whole = client.chat.completions.create(**ASK, tools=TOOLS).choices[0]
    assert whole.finish_reason == "tool_calls"
    assert whole.message.content is None
    (call,) = whole.message.tool_calls or []
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "Bern"}
    chunks = list(client.chat.completions.create(**ASK, tools=TOOLS, stream=True))
    deltas = [d for c in chunks for d in c.choices[0].delta.tool_calls or ()]
    assert [(d.index, d.function.name if d.function else "") for d in deltas] == [(0, "weather")]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_the_whole_way_of_a_tool(serve: Serve, script: Script) -> None:
    client = serve(script(CALL + CALL)).client()
    first = client.chat.completions.create(**ASK, tools=TOOLS, parallel_tool_calls=False).choices[0].message
    assert len(first.tool_calls or ()) == 1
    history = [
        *ASK["messages"],
        first.model_dump(),
        {"role": "tool", "tool_call_id": "x", "content": "sunny"},
    ]
    again = client.chat.completions.create(**(ASK | {"messages": history}), tools=TOOLS, tool_choice="none")
    assert again.choices[0].message.content == CALL + CALL


def test_parts_and_developer_messages(server: Running) -> None:
    messages: list[Any] = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "where "}, {"type": "text", "text": "to?"}]},
    ]
    answer = server.client().chat.completions.create(model="scripted", messages=messages)
    assert answer.choices[0].message.content == REPLY


def test_models(server: Running) -> None:
    client = server.client()
    assert [model.id for model in client.models.list()] == ["scripted"]
    assert client.models.retrieve("scripted").owned_by == "cairn"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def nested(depth: int) -> list[Any]:
    """Lists within each other."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("change", "message", "param"),
    [
        ({"temperature": 101}, "allowed: 0 to 100", "temperature"),
        ({"top_p": 0}, "above 0", "top_p"),
        ({"n": 0}, "1 to 128", "n"),
        ({"max_tokens": -1}, "0 or more", "max_tokens"),
        ({"temperatur": 1}, "did you mean 'temperature'", "temperatur"),
        ({"functions": []}, "unknown field", "functions"),
        ({"messages": []}, "at least 1", "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "'system'", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "no content", "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "no 'text'", "messages[0].content"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "reads text only", "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "tool_call_id", "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "surrogate", None),
        ({"\ud800": 1}, "surrogate", None),
        ({"tools": nested(700)}, "nests more than 100", None),
        ({"modalities": ["audio"]}, "allowed here", "modalities"),
        ({"top_logprobs": 2}, "logprobs: true", "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream: true", "stream_options"),
        ({"tool_choice": "required"}, "needs tools", "tool_choice"),
        ({"logit_bias": {"a": 1}}, "token ids", "logit_bias"),
        ({"logit_bias": {"9999": 1}}, "9999", "logit_bias"),
        ({"stop": ["a"] * 17}, "at most 16", "stop"),
        ({"messages": [{"role": "user", "content": "stone " * 600}]}, "tokens", "prompt"),
    ],
)
def test_what_is_wrong_is_said(
    server: Running, change: dict[str, Any], message: str, param: str | None
) -> None:
    response = server.http().post(
        "/v1/chat/completions",
        content=json.dumps(ASK | change),
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 400
    error = response.json()["error"]
    assert message in error["message"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


def test_errors_before_a_stream_have_their_status(server: Running) -> None:
    with pytest.raises(openai.BadRequestError):
        server.client().chat.completions.create(**(ASK | {"temperature": 101}), stream=True)
    long = [{"role": "user", "content": "stone " * 600}]
    with pytest.raises(openai.BadRequestError) as caught:
        server.client().chat.completions.create(**(ASK | {"messages": long}), stream=True)
    assert caught.value.code == "context_length_exceeded"


def test_an_unknown_model_is_404(server: Running) -> None:
    with pytest.raises(openai.NotFoundError):
        server.client().chat.completions.create(**(ASK | {"model": "nothing"}))


def test_the_remedy_is_a_field_and_the_end_of_the_message(server: Running) -> None:
    stranger = server.client().with_options(api_key="cairn_wrong")
    with pytest.raises(openai.AuthenticationError) as caught:
        stranger.chat.completions.create(**ASK)
    error = caught.value.body
    assert isinstance(error, dict)
    assert error["remedy"]
    assert error["message"].endswith(f"; {error['remedy']}")
    assert error["remedy"] in str(caught.value)


def test_fields_of_others_that_have_no_effect_are_taken(server: Running) -> None:
    answer = server.client().chat.completions.create(
        **ASK,
        user="u",
        metadata={"a": "b"},
        store=False,
        extra_body={
            "top_k": -1,
            "min_p": 0.1,
            "repetition_penalty": 1.1,
            "stop_token_ids": [],
            "ignore_eos": False,
        },
    )
    assert answer.choices[0].message.content == REPLY


def test_a_failure_in_the_middle_of_a_stream_is_an_event(serve: Serve, script: Script) -> None:
    scripted = script()
    scripted.runner.is_gated = True
    server = serve(scripted)
    stream = server.client().chat.completions.create(**ASK, stream=True)
    scripted.runner.gate.release(2)
    chunks = iter(stream)
    next(chunks)
    scripted.runner.script = [10**6] * 100  # no such token: the engine's step fails
    scripted.runner.is_gated = False
    scripted.runner.gate.release()
    with pytest.raises(openai.APIError, match="a step failed"):
        list(chunks)
    scripted.runner.script = []
    assert server.client().chat.completions.create(**ASK).choices[0].message.content == ""
