"""Messages with the official client: whole and streamed, tools there and back, endings, token counts."""

import json
from typing import Any

import anthropic
import pytest

from cairn.registry import Registry
from tests.server.conftest import PATIENCE, REPLY, Running, Script, Serve

ASK: dict[str, Any] = {
    "model": "scripted",
    "max_tokens": 200,
    "messages": [{"role": "user", "content": "where to?"}],
}
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call>'


def said(registry: Registry, receipt_id: str) -> list[dict[str, Any]]:
    """The messages that a model was given."""
    messages: list[dict[str, Any]] = registry.receipt(receipt_id).request["messages"]
    return messages


def test_a_whole_message(server: Running, registry: Registry) -> None:
    raw = server.anthropic().messages.with_raw_response.create(**ASK)
    message = raw.parse()
    assert [block.type for block in message.content] == ["text"]
    assert message.content[0].text == REPLY
    assert (message.type, message.role, message.model) == ("message", "assistant", "scripted")
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert message.id.startswith("msg_")
    receipt = registry.receipt(raw.headers["x-cairn-receipt"])
    assert message.usage.output_tokens == len(receipt.outputs[0])
    assert message.usage.input_tokens == len(receipt.prompt_token_ids)
    assert raw.headers["request-id"] == raw.headers["x-request-id"]


def test_a_streamed_message_is_the_whole_one(server: Running) -> None:
    client = server.anthropic()
    whole = client.messages.create(**ASK)
    with client.messages.stream(**ASK) as stream:
        assert "".join(stream.text_stream) == REPLY
        last = stream.get_final_message()
    assert [block.type for block in last.content] == [block.type for block in whole.content]
    assert last.content[0].text == whole.content[0].text
    assert last.stop_reason == whole.stop_reason
    total = whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)
    assert last.usage.input_tokens + (last.usage.cache_read_input_tokens or 0) == total
    assert last.usage.output_tokens == whole.usage.output_tokens


def test_the_events_of_a_stream_come_in_their_order(serve: Serve, script: Script) -> None:
    client = serve(script("here: " + CALL)).anthropic()
    events = list(client.messages.create(**ASK, tools=[WEATHER], stream=True))
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    inner = [kind for kind, before in zip(kinds[1:-2], kinds[:-3], strict=True) if kind != before]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert inner == block * 2
    starts = [event for event in events if event.type == "content_block_start"]
    assert [(event.index, event.content_block.type) for event in starts] == [(0, "text"), (1, "tool_use")]
    start = events[0]
    assert start.type == "message_start"
    assert start.message.usage.input_tokens > 0
    assert start.message.content == []
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    assert "".join(delta.text for delta in deltas if delta.type == "text_delta") == "here:"
    arguments = "".join(delta.partial_json for delta in deltas if delta.type == "input_json_delta")
    assert json.loads(arguments) == {"city": "Bern"}


async def test_the_async_client(server: Running) -> None:
    client = anthropic.AsyncAnthropic(base_url=server.url, api_key=server.key, timeout=PATIENCE)
    async with client, client.messages.stream(**ASK) as stream:
        text = "".join([text async for text in stream.text_stream])
    assert text == REPLY


def test_a_tool_there_and_back(serve: Serve, script: Script, registry: Registry) -> None:
    scripted = script(CALL)
    client = serve(scripted).anthropic()
    first = client.messages.create(**ASK, tools=[WEATHER], system="be brief")
    assert first.stop_reason == "tool_use"
    (call,) = first.content
    assert call.type == "tool_use"
    assert (call.name, call.input) == ("weather", {"city": "Bern"})
    scripted.runner.script = scripted.tokenizer.encode("It is sunny.")
    result = [{"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "sunny"}]}]
    turns = [
        *ASK["messages"],
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [*result, {"type": "text", "text": "and so?"}]},
    ]
    raw = client.messages.with_raw_response.create(
        **(ASK | {"messages": turns}), tools=[WEATHER], system=[{"type": "text", "text": "be brief"}]
    )
    assert raw.parse().content[0].text == "It is sunny."
    messages = said(registry, raw.headers["x-cairn-receipt"])
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool", "user"]
    assert messages[2]["tool_calls"][0]["call_id"] == messages[3]["tool_call_id"] == call.id


def test_calls_in_parallel_or_one(serve: Serve, script: Script) -> None:
    client = serve(script(CALL + CALL)).anthropic()
    both = client.messages.create(**ASK, tools=[WEATHER])
    assert [block.type for block in both.content] == ["tool_use", "tool_use"]
    one = client.messages.create(
        **ASK, tools=[WEATHER], tool_choice={"type": "auto", "disable_parallel_tool_use": True}
    )
    assert len(one.content) == 1
    with client.messages.stream(**ASK, tools=[WEATHER]) as stream:
        assert [block.type for block in stream.get_final_message().content] == ["tool_use", "tool_use"]


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "any"},
        {"type": "any", "disable_parallel_tool_use": True},
        {"type": "tool", "name": "weather"},
    ],
)
def test_a_demanded_call_is_made_by_any_model(serve: Serve, script: Script, choice: Any) -> None:
    client = serve(script(CALL.replace("<tool_call>", "<tool_call>\n").replace("}</", "}\n</"))).anthropic()
    message = client.messages.create(**ASK, tools=[WEATHER], tool_choice=choice)
    assert message.stop_reason == "tool_use"
    assert message.content[0].input == {"city": "Bern"}


def test_no_tool_is_called_where_none_may_be(serve: Serve, script: Script) -> None:
    client = serve(script(CALL)).anthropic()
    message = client.messages.create(**ASK, tools=[WEATHER], tool_choice={"type": "none"})
    assert message.content[0].text == CALL
    assert message.stop_reason == "end_turn"


def test_how_a_message_ends(serve: Serve, script: Script) -> None:
    client = serve(script()).anthropic()
    stopped = client.messages.create(**ASK, stop_sequences=["way", "the"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "the")
    assert stopped.content[0].text == "stones mark "
    cut = client.messages.create(**(ASK | {"max_tokens": 1}))
    assert cut.stop_reason == "max_tokens"
    endless = serve(script("stones " * 600)).anthropic().messages.create(**(ASK | {"max_tokens": 100_000}))
    assert endless.stop_reason == "model_context_window_exceeded"


def test_a_reply_in_json(server: Running) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"const": True}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    message = server.anthropic().messages.create(
        **ASK, output_config={"format": {"type": "json_schema", "schema": schema | {"type": "object"}}}
    )
    assert json.loads(message.content[0].text) == {"ok": True}


def test_tokens_are_counted_as_the_model_reads_them(server: Running) -> None:
    client = server.anthropic()
    more: dict[str, Any] = {"system": "be brief", "tools": [WEATHER], "messages": ASK["messages"]}
    counted = client.messages.count_tokens(model="scripted", **more).input_tokens
    plain = client.messages.count_tokens(model="scripted", messages=ASK["messages"]).input_tokens
    assert counted > plain
    usage = client.messages.create(**(ASK | more)).usage
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted
    with client.messages.stream(**(ASK | more)) as stream:
        start = next(event for event in stream if event.type == "message_start")
    assert start.message.usage.input_tokens == counted


def test_turns_of_one_role_are_one(server: Running, registry: Registry) -> None:
    turns = [
        {"role": "user", "content": "where "},
        {
            "role": "user",
            "content": [{"type": "text", "text": "to?", "cache_control": {"type": "ephemeral"}}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "text", "text": "up"},
            ],
        },
        {"role": "user", "content": "and then?"},
    ]
    raw = server.anthropic().messages.with_raw_response.create(
        **(ASK | {"messages": turns}),
        metadata={"user_id": "u-17"},
        thinking={"type": "disabled"},
        extra_body={"temperature": 0.5, "top_p": 0.9, "top_k": 5},
    )
    receipt_id = raw.headers["x-cairn-receipt"]
    assert [message["role"] for message in said(registry, receipt_id)] == ["user", "assistant", "user"]
    receipt = registry.receipt(receipt_id)
    assert receipt.request["metadata"] == {"user_id": "u-17"}
    assert [receipt.sampling[name] for name in ("temperature", "top_p", "top_k")] == [0.5, 0.9, 5]


def test_models_are_listed_for_this_client_too(server: Running) -> None:
    assert [model.id for model in server.anthropic().models.list()] == ["scripted"]
