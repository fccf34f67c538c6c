"""Failures below /v1/messages: Anthropic's shape, its client's exceptions, before and within a stream."""

import json
from typing import Any

import anthropic
import httpx2
import pytest

from tests.server.anthropic.test_messages import ASK, CALL, WEATHER
from tests.server.conftest import PATIENCE, REPLY, Running, Script, Serve, small_queue

START = {"role": "assistant", "content": "I"}
CALLED = {"type": "tool_use", "id": "a", "name": "b", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "a"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}


@pytest.mark.parametrize(
    ("change", "message", "param"),
    [
        ({"temperature": 101}, "allowed: 0 to 100", "temperature"),
        ({"max_token": 1}, "did you mean 'max_tokens'", "max_token"),
        ({"max_tokens": None}, "valid integer", "max_tokens"),
        ({"max_tokens": -1}, "greater than or equal to 0", "max_tokens"),
        ({"messages": []}, "at least 1", "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "'user'", "messages[0].role"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "reads text only", "messages"),
        ({"messages": [*ASK["messages"], START]}, "not continued", "messages"),
        (
            {"messages": [{"role": "user", "content": [RESULT]}]},
            "no tool_use before it",
            "messages[0].content[0].tool_use_id",
        ),
        (
            {"messages": [{"role": "user", "content": [CALLED]}]},
            "the assistant's",
            "messages[0].content[0]",
        ),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "surrogate", None),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "your own", "tools[0].type"),
        ({"tools": [{"name": "weather"}]}, "input_schema is missing", "tools[0].input_schema"),
        ({"tool_choice": {"type": "any"}}, "needs tools", "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "weather", "tool_choice.name"),
        ({"stop_sequences": [""]}, "none of them empty", "stop_sequences"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "disabled, adaptive", "thinking.type"),
    ],
)
def test_what_is_wrong_is_said(
    server: Running, change: dict[str, Any], message: str, param: str | None
) -> None:
    response = server.http().post(
        "/v1/messages",
        content=json.dumps(ASK | change),
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 400
    body = response.json()
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    assert message in body["error"]["message"]
    assert body["error"]["details"]["param"] == param
    assert body["request_id"] == response.headers["request-id"]


def test_keys_in_either_header(server: Running) -> None:
    client = server.anthropic(api_key=None, auth_token=server.key)
    assert client.messages.create(**ASK).stop_reason == "end_turn"
    with pytest.raises(anthropic.AuthenticationError) as caught:
        server.anthropic(api_key="cairn_wrong").messages.create(**ASK)
    assert caught.value.type == "authentication_error"
    assert caught.value.request_id
    assert server.http("").post("/v1/messages", json=ASK).json()["error"]["type"] == "authentication_error"


def test_a_key_in_x_api_key_opens_the_other_routes_too(server: Running) -> None:
    assert server.http("", params={}).get("/v1/models", headers={"x-api-key": server.key}).status_code == 200
    wrong = server.http("").get("/v1/models", headers={"x-api-key": "cairn_wrong"})
    assert wrong.status_code == 401
    assert "type" not in wrong.json()


def test_unknown_models_and_paths(server: Running) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        server.anthropic().messages.create(**(ASK | {"model": "nobody"}))
    assert caught.value.type == "not_found_error"
    assert server.http().get("/v1/messages").json()["type"] == "error"
    assert server.http().post("/v1/messages/nowhere").json()["error"]["type"] == "not_found_error"


def test_a_body_that_is_too_large(serve: Serve) -> None:
    client = serve(max_body_bytes=1000).anthropic()
    caught: Any
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(**(ASK | {"system": "x" * 2000}))
    assert caught.value.status_code == 413
    assert caught.value.body["error"]["type"] == "request_too_large"


def test_a_refusal_for_want_of_room_is_tried_again(serve: Serve, script: Script) -> None:
    scripted = script(config=small_queue())
    scripted.runner.is_gated = True
    server = serve(scripted)
    refusals = []

    def make_room(response: httpx2.Response) -> None:
        if response.status_code == 429:
            response.read()
            refusals.append((response.json()["error"]["type"], response.headers["retry-after"]))
            scripted.runner.is_gated = False
            scripted.runner.gate.release(1000)
            server.wait_until(lambda: not scripted.provider.load().running)

    with server.anthropic().messages.stream(**ASK) as holder:
        server.wait_until(lambda: bool(scripted.provider.load().running))
        http = httpx2.Client(event_hooks={"response": [make_room]}, timeout=PATIENCE)
        client = server.anthropic(http_client=http, max_retries=1)
        assert client.messages.create(**ASK).content[0].text == REPLY
        assert holder.get_final_text() == REPLY
    assert [kind for kind, _ in refusals] == ["rate_limit_error"]
    assert all(float(seconds) > 0 for _, seconds in refusals)


def test_a_failure_within_a_stream_is_an_event(serve: Serve, script: Script) -> None:
    scripted = script()
    scripted.runner.is_gated = True
    server = serve(scripted)
    with server.anthropic().messages.create(**ASK, stream=True) as stream:
        events = iter(stream)
        scripted.runner.gate.release(3)
        assert next(events).type == "message_start"
        scripted.runner.script = [10**6] * 100  # no such token: the engine's step fails
        scripted.runner.is_gated = False
        scripted.runner.gate.release()
        caught: Any
        with pytest.raises(anthropic.APIStatusError, match="a step failed") as caught:
            list(events)
    assert caught.value.body["type"] == "error"
    assert caught.value.body["request_id"].startswith("req_")


def test_a_silent_stream_is_pinged(serve: Serve, script: Script) -> None:
    scripted = script(CALL)
    scripted.runner.is_gated = True
    server = serve(scripted, keep_alive_seconds=0.05)
    with server.http().stream("POST", "/v1/messages", json=ASK | {"stream": True}) as response:
        lines = response.iter_lines()
        assert any(line == "event: ping" for line in lines)
        assert next(lines) == 'data: {"type":"ping"}'
        scripted.runner.is_gated = False
        scripted.runner.gate.release()
        assert any(line == "event: message_stop" for line in lines)
