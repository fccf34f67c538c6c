"""Conversations as files: what leaves comes back whole, and what is no such file is refused."""

import io
import json
import zipfile
from typing import Any

import pytest

from cairn.registry import Registry
from tests.server.conftest import Running
from tests.server.conversations.talks import begin, citation, keep_document, say
from tests.server.conversations.test_conversations import store_receipt


def whole(server: Running, registry: Registry) -> str:
    """A conversation with everything a conversation can have."""
    client = server.http()
    conversation, (question, _) = begin(client, "Gulls / terns: 🙂", "which?", "# gulls\n\nsee [1]")
    receipt = store_receipt(registry, "admin")
    cited = [citation(keep_document(registry, "opened", ["everyone"]), "opened")]
    check = [{"start": 0, "end": 5, "sources": [1], "supported": True}]
    reply = say(
        client,
        conversation,
        "assistant",
        "terns [1]",
        question,
        receipt_id=receipt,
        annotations=cited,
        sentences=check,
    )
    judged = {"message_id": reply["id"], "rating": 1, "comment": "so they are"}
    assert client.post("/api/feedback", json=judged).status_code == 200
    client.post("/api/folders", json={"name": "Birds", "conversation_ids": [conversation]})
    return conversation


def plain(filed: dict[str, Any]) -> dict[str, Any]:
    """A conversation without ids and times, which are new when it comes in again."""
    number = {message["id"]: at for at, message in enumerate(filed["messages"])}
    messages = [
        {**each, "id": number[each["id"]], "parent_id": number.get(each["parent_id"]), "created_at": 0}
        for each in filed["messages"]
    ]
    return {**filed, "messages": messages, "created_at": 0, "updated_at": 0}


def test_what_leaves_comes_back_whole(server: Running, registry: Registry) -> None:
    client = server.http()
    conversation = whole(server, registry)
    begin(client, "Another", "x")
    answer = client.get("/api/conversations/export")
    assert answer.headers["content-disposition"].startswith('attachment; filename="conversations.json"')
    filed = answer.json()
    assert [each["title"] for each in filed["conversations"]] == ["Gulls / terns: 🙂", "Another"]
    one = client.get(f"/api/conversations/{conversation}/export").json()
    assert one["conversations"] == filed["conversations"][:1]

    imported = client.post("/api/conversations/import", json=filed)
    assert imported.status_code == 201, imported.text
    assert imported.json()["num_messages"] == 4
    (copy, _) = imported.json()["conversation_ids"]
    again = client.get(f"/api/conversations/{copy}/export").json()["conversations"][0]
    assert plain(again) == plain(one["conversations"][0])
    first, second = (client.get(f"/api/conversations/{each}").json() for each in (conversation, copy))
    assert second["folder_id"] == first["folder_id"]
    assert second["messages"][2]["receipt_id"] == first["messages"][2]["receipt_id"] is not None
    assert second["messages"][2]["annotations"] == first["messages"][2]["annotations"]
    found = client.get("/api/conversations/search", params={"q": "terns"}).json()["hits"]
    assert {hit["conversation_id"] for hit in found} == {conversation, copy}


def test_another_gets_the_words_and_nothing_that_is_not_theirs(server: Running, registry: Registry) -> None:
    conversation = whole(server, registry)
    keep_document(registry, "closed", ["user:admin"])
    filed = server.http().get(f"/api/conversations/{conversation}/export").json()
    filed["conversations"][0]["messages"][1]["annotations"] = [citation("doc-closed", "closed")]
    bob = server.http(server.state.identity.create_key("bob"))
    copy = bob.post("/api/conversations/import", json=filed).json()["conversation_ids"][0]
    turns = bob.get(f"/api/conversations/{copy}").json()["messages"]
    assert [turn["content"] for turn in turns] == ["which?", "# gulls\n\nsee [1]", "terns [1]"]
    assert [turn["receipt_id"] for turn in turns] == [None] * 3
    assert [(each["is_open"], each["quote"]) for each in turns[1]["annotations"]] == [(False, "")]
    assert [each["name"] for each in bob.get("/api/folders").json()] == ["Birds"]
    assert len(server.http().get("/api/conversations").json()) == 1


def test_markdown_reads_as_the_page_shows_it(server: Running, registry: Registry) -> None:
    client = server.http()
    conversation = whole(server, registry)
    path = f"/api/conversations/{conversation}/export"
    answer = client.get(path, params={"format": "markdown"})
    assert answer.headers["content-type"].startswith("text/markdown")
    assert 'filename="Gulls terns.md"' in answer.headers["content-disposition"]
    lines = answer.text.split("\n\n")
    assert lines[0] == "# Gulls / terns: 🙂"
    assert lines[2:] == ["## You", "which?", "## Reply", "terns [1]", "Sources:", "- [1] opened.md, page 3\n"]
    first = client.get(f"/api/conversations/{conversation}").json()["messages"][1]["id"]
    earlier = client.get(path, params={"format": "markdown", "message_id": first}).text
    assert "see [1]" in earlier
    assert "terns [1]" not in earlier


def test_all_of_them_as_markdown_have_names_of_their_own(server: Running, registry: Registry) -> None:
    client = server.http()
    whole(server, registry)
    for _ in range(2):
        begin(client, "../../etc/passwd", "x")
    answer = client.get("/api/conversations/export", params={"format": "markdown"})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["Birds/Gulls terns.md", "etc passwd.md", "etc passwd (2).md"]
        assert archive.read("Birds/Gulls terns.md").decode().startswith("# Gulls / terns: 🙂")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "something else"}, "cairn.conversations"),
        ({"version": 2}, "version"),
        ({"conversations": [{"title": ""}]}, "title"),
        ({"conversations": [{"title": "x", "owner": "bob"}]}, "owner"),
        ({"conversations": [{"title": "x", "updated_at": -1}]}, "updated_at"),
        ({"conversations": [{"title": "x", "updated_at": 1e300}]}, "updated_at"),
    ],
)
def test_what_is_no_such_file_is_refused(server: Running, change: dict[str, Any], said: str) -> None:
    good = {"format": "cairn.conversations", "version": 1, "conversations": []}
    answer = server.http().post("/api/conversations/import", json=good | change)
    assert answer.status_code == 400
    assert said in answer.text


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"id": "a"}, {"id": "a"}], "two messages have the id 'a'"),
        ([{"id": "a", "parent_id": "a"}], "no message 'a' stands before"),
        ([{"id": "a", "parent_id": "b"}, {"id": "b"}], "no message 'b' stands before"),
    ],
)
def test_turns_that_make_no_tree_are_refused_and_nothing_stays(
    server: Running, messages: list[dict[str, str]], said: str
) -> None:
    bad = {"title": "bad", "messages": [{**each, "role": "user", "content": "x"} for each in messages]}
    body = {"format": "cairn.conversations", "version": 1, "conversations": [{"title": "good"}, bad]}
    answer = server.http().post("/api/conversations/import", json=body)
    assert answer.status_code == 400
    assert said in json.loads(answer.text)["error"]["message"]
    assert server.http().get("/api/conversations").json() == []


def test_turns_of_one_moment_keep_their_order(server: Running) -> None:
    messages = [{"id": str(at), "role": "user", "content": str(at), "created_at": 5.0} for at in range(20)]
    one = {"title": "x", "messages": messages}
    body = {"format": "cairn.conversations", "version": 1, "conversations": [one]}
    made = server.http().post("/api/conversations/import", json=body).json()["conversation_ids"][0]
    turns = server.http().get(f"/api/conversations/{made}").json()["messages"]
    assert [turn["content"] for turn in turns] == [str(at) for at in range(20)]
