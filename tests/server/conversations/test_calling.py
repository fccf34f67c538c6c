"""Calls of tools in stored conversations, what they gave, and searches of collections that were made."""

from typing import Any

import pytest

from cairn.registry import Registry
from tests.server.conftest import Running
from tests.server.conversations.talks import begin, citation, keep_document, say
from tests.server.conversations.test_exchange import plain

CALL = {"id": "call_1", "type": "function", "function": {"name": "tide", "arguments": '{"at": "Ærø"}'}}
GAVE = 'high at 5\n```\n{"metres": 1.5}'


def with_calls(server: Running, registry: Registry) -> tuple[str, list[dict[str, Any]]]:
    """A conversation in which a tool is called twice, and a collection is searched."""
    client = server.http()
    conversation, (question,) = begin(client, "Tides", "when?")
    second = {**CALL, "id": "call_2"}
    calls = say(client, conversation, "assistant", "", question, tool_calls=[CALL, second])
    first = say(client, conversation, "tool", GAVE, calls["id"], tool_call_id="call_1")
    other = say(client, conversation, "tool", "", first["id"], tool_call_id="call_2")
    document = keep_document(registry, "opened", ["everyone"])
    cited = citation(document, "opened")
    found = {name: cited[name] for name in ("number", "filename", "collection", "document_id", "chunk_id")}
    found |= {"score": 0.75, "page": 3, "heading": ["about it"], "quote": "it begins …", "collection_id": ""}
    search = {"query": "when?", "collections": ["of-opened"], "found": [found]}
    reply = say(client, conversation, "assistant", "At five.", other["id"], search=search)
    return conversation, [calls, first, other, reply]


def test_they_are_told_again_as_they_came(server: Running, registry: Registry) -> None:
    conversation, said = with_calls(server, registry)
    turns = server.http().get(f"/api/conversations/{conversation}").json()["messages"]
    assert turns[1:] == said
    calls, first, other, reply = turns[1:]
    assert [each["id"] for each in calls["tool_calls"]] == ["call_1", "call_2"]
    assert calls["tool_calls"][0] == CALL
    assert [(each["role"], each["tool_call_id"]) for each in (first, other)] == [
        ("tool", "call_1"),
        ("tool", "call_2"),
    ]
    assert first["content"] == GAVE
    assert reply["search"]["found"][0]["quote"] == "it begins …"
    assert reply["search"]["found"][0]["is_open"] is True
    assert (turns[0]["tool_calls"], turns[0]["tool_call_id"], turns[0]["search"]) == ([], None, None)


def test_a_file_keeps_them_all(server: Running, registry: Registry) -> None:
    client = server.http()
    conversation, _ = with_calls(server, registry)
    filed = client.get(f"/api/conversations/{conversation}/export").json()
    copy = client.post("/api/conversations/import", json=filed).json()["conversation_ids"][0]
    again = client.get(f"/api/conversations/{copy}/export").json()
    assert plain(again["conversations"][0]) == plain(filed["conversations"][0])
    first, second = (
        client.get(f"/api/conversations/{each}").json()["messages"] for each in (conversation, copy)
    )
    for name in ("role", "content", "tool_calls", "tool_call_id", "search"):
        assert [each[name] for each in second] == [each[name] for each in first]


def test_markdown_shows_calls_and_what_they_gave(server: Running, registry: Registry) -> None:
    conversation, _ = with_calls(server, registry)
    path = f"/api/conversations/{conversation}/export"
    text = server.http().get(path, params={"format": "markdown"}).text
    assert text.count('Calls `tide`:\n\n```json\n{"at": "Ærø"}\n```') == 2
    # A result that holds a fence is fenced by a longer one.
    assert f"## What the tool gave\n\n````\n{GAVE}\n````" in text
    assert text.endswith("At five.\n")


def test_what_was_found_is_shown_as_long_as_it_is_open(server: Running, registry: Registry) -> None:
    conversation, _ = with_calls(server, registry)
    filed = server.http().get(f"/api/conversations/{conversation}/export").json()
    search = filed["conversations"][0]["messages"][-1]["search"]
    search["found"][0] |= {"document_id": keep_document(registry, "closed", ["user:nobody"])}
    copy = server.http().post("/api/conversations/import", json=filed).json()["conversation_ids"][0]
    told = server.http().get(f"/api/conversations/{copy}").json()["messages"][-1]["search"]
    assert told["query"] == "when?"
    assert [(each["is_open"], each["quote"], each["heading"]) for each in told["found"]] == [(False, "", [])]
    again = server.http().get(f"/api/conversations/{copy}/export").text
    assert "it begins" not in again


def test_a_link_shows_what_was_said_and_not_what_tools_gave(server: Running, registry: Registry) -> None:
    client = server.http()
    conversation, _ = with_calls(server, registry)
    made = client.post(f"/api/conversations/{conversation}/shares", json={}).json()
    shown = client.get(f"/api/shared/{made['token']}")
    turns = shown.json()["turns"]
    assert [(each["role"], each["content"]) for each in turns] == [
        ("user", "when?"),
        ("assistant", "At five."),
    ]
    assert "metres" not in shown.text
    assert "it begins" not in shown.text


def test_no_search_leads_to_what_is_folded_away(server: Running, registry: Registry) -> None:
    with_calls(server, registry)
    client = server.http()
    found = {
        word: client.get("/api/conversations/search", params={"q": word}).json()["hits"]
        for word in ("metres", "five")
    }
    assert found["metres"] == []
    assert [each["role"] for each in found["five"]] == ["assistant"]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "tool_calls": [CALL]}, "tool_calls"),
        ({"role": "tool"}, "tool_call_id"),
        ({"role": "tool", "tool_call_id": ""}, "tool_call_id"),
        ({"role": "assistant", "tool_call_id": "call_1"}, "tool_call_id"),
    ],
)
def test_what_no_such_turn_has_is_refused(server: Running, message: dict[str, Any], param: str) -> None:
    client = server.http()
    conversation, _ = begin(client, "Tides", "when?")
    body = {"content": "x", **message}
    answer = client.post(f"/api/conversations/{conversation}/messages", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    filed = {"title": "x", "messages": [{"id": "a", **body}]}
    file = {"format": "cairn.conversations", "version": 1, "conversations": [filed]}
    assert client.post("/api/conversations/import", json=file).status_code == 400
