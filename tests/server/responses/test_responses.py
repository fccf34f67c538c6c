"""Responses with the official client: made, streamed, parsed; tools; what is refused."""

import json
from collections.abc import Sequence
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from cairn.registry import Registry
from tests.server.conftest import REPLY, Running, Script, Serve

ASK: dict[str, Any] = {"model": "scripted", "input": "where to?", "temperature": 0}
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call>'
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}

RESULT = {"type": "function_call_output", "call_id": "a", "output": "x"}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,aGk="}
OTHER = {"type": "function", "name": "x"}


def responses_of(server: Running) -> Any:
    """Responses of the client, without their types, which are many for one thing."""
    return server.client().responses


def test_a_whole_response(server: Running, registry: Registry) -> None:
    raw = responses_of(server).with_raw_response.create(**ASK, metadata={"for": "a test"})
    response = raw.parse()
    assert response.output_text == REPLY
    assert (response.object, response.status, response.model) == ("response", "completed", "scripted")
    assert response.metadata == {"for": "a test"}
    assert response.error is None
    assert response.incomplete_details is None
    receipt = registry.receipt(raw.headers["x-cairn-receipt"])
    assert response.usage is not None
    assert response.usage.input_tokens == len(receipt.prompt_token_ids)
    assert response.usage.output_tokens == len(receipt.outputs[0])
    assert response.model_extra is not None
    assert response.model_extra["cairn"] == {"receipt": receipt.receipt_id}


def test_the_events_of_a_stream_come_in_their_order(serve: Serve, script: Script) -> None:
    client: Any = serve(script("here: " + CALL)).client()
    events = list(client.responses.create(**ASK, tools=[WEATHER], stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = _without_repeats([event.type for event in events])
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert {event.response.id for event in events if hasattr(event, "response")} == {_last(events).id}
    text, call = _last(events).output
    assert text.content[0].text == "here:"
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Bern"})
    places = [event.output_index for event in events if hasattr(event, "output_index")]
    assert places == sorted(places)
    assert set(places) == {0, 1}


def test_the_client_that_puts_a_stream_together(server: Running) -> None:
    client: Any = server.client()
    with client.responses.stream(**ASK) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        last = stream.get_final_response()
    assert text == last.output_text == REPLY
    assert client.responses.retrieve(last.id).output_text == REPLY


async def test_the_async_client(server: Running) -> None:
    async with server.async_client() as client:
        response = await client.responses.create(**ASK)
    assert response.output_text == REPLY


class Animal(BaseModel):
    kind: Literal["cat"]


def test_a_reply_of_a_form(server: Running) -> None:
    client: Any = server.client()
    parsed = client.responses.parse(**ASK, text_format=Animal)
    assert parsed.output_parsed == Animal(kind="cat")
    with client.responses.stream(**ASK, text_format=Animal) as stream:
        assert stream.get_final_response().output_parsed == Animal(kind="cat")


def test_calls_and_what_they_gave(serve: Serve, script: Script, registry: Registry) -> None:
    scripted = script(CALL + CALL)
    client: Any = serve(scripted).client()
    asked = ASK | {"tools": [WEATHER]}
    first = client.responses.create(**asked)
    assert [item.type for item in first.output] == ["function_call", "function_call"]
    assert len(client.responses.create(**asked, parallel_tool_calls=False).output) == 1
    scripted.runner.script = scripted.tokenizer.encode("It is sunny.")
    results = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"} for item in first.output
    ]
    whole = [
        {"role": "user", "content": "where to?"},
        *(each.model_dump() for each in first.output),
        *results,
    ]
    stateless = client.responses.with_raw_response.create(**(asked | {"input": whole}))
    stored = client.responses.with_raw_response.create(
        **(asked | {"input": results}), previous_response_id=first.id
    )
    assert stateless.parse().output_text == stored.parse().output_text == "It is sunny."
    given = [registry.receipt(raw.headers["x-cairn-receipt"]).prompt_token_ids for raw in (stateless, stored)]
    assert given[0] == given[1]


def test_a_demanded_call(serve: Serve, script: Script) -> None:
    client: Any = serve(script(CALL.replace("<tool_call>", "<tool_call>\n").replace("}</", "}\n</"))).client()
    for choice in ("required", {"type": "function", "name": "weather"}):
        response = client.responses.create(**ASK, tools=[WEATHER], tool_choice=choice)
        assert [item.type for item in response.output] == ["function_call"]
    plain = client.responses.create(**ASK, tools=[WEATHER], tool_choice="none")
    assert [item.type for item in plain.output] == ["message"]


def test_a_response_that_is_cut(server: Running) -> None:
    client: Any = server.client()
    response = client.responses.create(**ASK, max_output_tokens=2)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    kinds = [event.type for event in client.responses.create(**ASK, max_output_tokens=2, stream=True)]
    assert kinds[-1] == "response.incomplete"


def test_log_probabilities(server: Running) -> None:
    include: Any = ["message.output_text.logprobs"]
    response = responses_of(server).create(**ASK, include=include, top_logprobs=2)
    content = response.output[0].content[0]
    assert content.logprobs
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in content.logprobs)
    assert bytes(byte for token in content.logprobs[:-1] for byte in token.bytes).decode() == REPLY


def test_what_does_not_fit_is_left_out_from_the_beginning(server: Running, registry: Registry) -> None:
    client: Any = server.client()
    turns: list[Any] = []
    for number in range(40):
        turns += [
            {"role": "user", "content": f"question {number}"},
            {"role": "assistant", "content": [{"type": "output_text", "text": f"answer {number}"}]},
        ]
    asked = ASK | {"input": [*turns, {"role": "user", "content": "and now?"}], "instructions": "be brief"}
    with pytest.raises(openai.BadRequestError, match="tokens"):
        client.responses.create(**asked)
    raw = client.responses.with_raw_response.create(**asked, truncation="auto")
    assert raw.parse().output_text == REPLY
    messages = registry.receipt(raw.headers["x-cairn-receipt"]).request["messages"]
    assert [message["role"] for message in messages[:2]] == ["system", "user"]
    assert messages[-1]["content"] == "and now?"
    assert 3 < len(messages) < 82
    with pytest.raises(openai.BadRequestError, match="the last turn alone"):
        client.responses.create(**(ASK | {"input": "stone " * 600}), truncation="auto")


@pytest.mark.parametrize(
    ("change", "message", "param"),
    [
        ({"temperature": 101}, "allowed: 0 to 100", "temperature"),
        ({"instruction": "x"}, "did you mean 'instructions'", "instruction"),
        ({"input": []}, "at least 1", "input"),
        ({"input": [{"role": "robot", "content": "x"}]}, "'user'", "role"),
        ({"input": [{"type": "computer_call"}]}, "computer_call", "input"),
        ({"input": [RESULT]}, "no function_call", "call_id"),
        ({"input": [{"role": "user", "content": [IMAGE]}]}, "text only", "messages"),
        ({"background": True}, "False", "background"),
        ({"max_output_tokens": 0}, "greater than or equal to 1", "max_output_tokens"),
        ({"text": {"format": {"type": "json_schema"}}}, "no schema", "text.format"),
        ({"text": {"format": {"type": "text", "schema": {}}}}, "that alone", "text.format"),
        ({"tools": [{"type": "web_search"}]}, "web_search", "tools"),
        ({"tool_choice": "required"}, "needs tools", "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": OTHER}, "weather", "tool_choice.name"),
        ({"top_logprobs": 2}, "include", "top_logprobs"),
        ({"previous_response_id": "resp_none"}, "there is no response", None),
    ],
)
def test_what_is_wrong_is_said(server: Running, change: Any, message: str, param: str | None) -> None:
    response = server.http().post("/v1/responses", json=ASK | change)
    assert response.status_code == (404 if "previous_response_id" in change else 400)
    error = response.json()["error"]
    assert message in error["message"]
    assert (param or "") in (error["param"] or "")


def test_a_failure_within_a_stream_is_an_event(serve: Serve, script: Script) -> None:
    scripted = script()
    scripted.runner.is_gated = True
    server = serve(scripted)
    client: Any = server.client()
    events = iter(client.responses.create(**ASK, stream=True))
    scripted.runner.gate.release(3)
    assert next(events).type == "response.created"
    scripted.runner.script = [10**6] * 100  # no such token: the engine's step fails
    scripted.runner.is_gated = False
    scripted.runner.gate.release()
    last = list(events)[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert "a step failed" in last.response.error.message
    assert client.responses.retrieve(last.response.id).status == "failed"


def _without_repeats(kinds: Sequence[str]) -> list[str]:
    return [kind for kind, before in zip(kinds, ["", *kinds[:-1]], strict=True) if kind != before]


def _last(events: Sequence[Any]) -> Any:
    return events[-1].response
