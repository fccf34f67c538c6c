"""Conversations: a tree of messages, feedback with its receipt, soft deletion, and nobody else's."""

import time
from typing import Any

import httpx2
import pytest

from cairn.registry import Receipt, Registry, new_receipt_id
from tests.server.conftest import Running


def say(
    client: httpx2.Client, conversation: str, role: str, content: str, parent: str | None = None, **more: Any
) -> Any:
    body = {"role": role, "content": content, "parent_id": parent, **more}
    response = client.post(f"/api/conversations/{conversation}/messages", json=body)
    assert response.status_code == 201, response.text
    return response.json()


def store_receipt(registry: Registry, user_id: str) -> str:
    receipt = Receipt(
        receipt_id=new_receipt_id(),
        created_at=time.time(),
        kind="chat",
        model="scripted",
        artifact="sha256:" + "5c" * 32,
        prompt_token_ids=[1, 2],
        sampling={"seed": 3},
        outputs=[[4]],
        finish_reasons=["stop"],
        runner={},
        user_id=user_id,
        request={},
    )
    registry.save_receipt(receipt)
    return receipt.receipt_id


def test_a_conversation_from_beginning_to_end(server: Running, registry: Registry) -> None:
    client = server.http()
    made = client.post("/api/conversations", json={"title": "  Stones ", "model": "scripted"}).json()
    assert (made["title"], made["messages"]) == ("Stones", [])
    receipt_id = store_receipt(registry, "admin")
    question = say(client, made["id"], "user", "where to?")
    first = say(client, made["id"], "assistant", "up 🙂", question["id"], receipt_id=receipt_id)
    second = say(client, made["id"], "assistant", "down", question["id"])
    found = client.get(f"/api/conversations/{made['id']}").json()
    assert [m["id"] for m in found["messages"]] == [question["id"], first["id"], second["id"]]
    assert [m["parent_id"] for m in found["messages"]] == [None, question["id"], question["id"]]
    assert found["messages"][1]["content"] == "up 🙂"
    (listed,) = client.get("/api/conversations").json()
    assert listed == {key: found[key] for key in ("id", "title", "updated_at", "model", "folder_id")}
    assert (
        client.patch(f"/api/conversations/{made['id']}", json={"title": "Cairns"}).json()["title"] == "Cairns"
    )


def test_the_latest_conversation_comes_first(server: Running) -> None:
    client = server.http()
    ids = [client.post("/api/conversations", json={}).json()["id"] for _ in range(3)]
    say(client, ids[0], "user", "again")
    assert [row["id"] for row in client.get("/api/conversations").json()] == [ids[0], ids[2], ids[1]]


def test_of_two_answers_the_better_is_kept(server: Running, registry: Registry) -> None:
    client = server.http()
    first, second = (store_receipt(registry, "admin") for _ in range(2))
    body = {"receipts": [first, second], "better": second}
    (said,) = client.post("/api/preferences", json=body).json()["data"]
    assert (said["chosen"], said["rejected"]) == (second, first)
    # Of a pair the last word counts, whichever stands first.
    client.post("/api/preferences", json={"receipts": [second, first], "better": first})
    (said,) = client.get("/api/preferences", params={"receipt": second}).json()["data"]
    assert (said["chosen"], said["rejected"]) == (first, second)
    assert client.post("/api/preferences", json=body | {"better": None}).json() == {"data": []}
    assert client.get("/api/preferences").json() == {"data": []}


def test_a_preference_is_between_two_answers_of_ones_own(server: Running, registry: Registry) -> None:
    client = server.http()
    mine, theirs = store_receipt(registry, "admin"), store_receipt(registry, "bob")
    for receipts, better, status in (
        ([mine, mine], mine, 400),
        ([mine, theirs], "rcpt_third", 400),
        ([mine], mine, 400),
        ([mine, theirs], mine, 404),
        ([mine, "rcpt_gone"], mine, 404),
    ):
        answer = client.post("/api/preferences", json={"receipts": receipts, "better": better})
        assert answer.status_code == status, answer.text
    assert client.get("/api/preferences").json() == {"data": []}


def test_feedback_is_kept_with_its_receipt(server: Running, registry: Registry) -> None:
    client = server.http()
    conversation = client.post("/api/conversations", json={}).json()["id"]
    receipt_id = store_receipt(registry, "admin")
    reply = say(client, conversation, "assistant", "up", receipt_id=receipt_id)
    body = {"message_id": reply["id"], "receipt_id": receipt_id, "rating": -1, "comment": "wrong way"}
    assert client.post("/api/feedback", json=body).json() == {"rating": -1, "comment": "wrong way"}
    assert client.post("/api/feedback", json=body | {"rating": 1}).status_code == 200
    (message,) = client.get(f"/api/conversations/{conversation}").json()["messages"]
    assert message["feedback"] == {"rating": 1, "comment": "wrong way"}
    assert client.post("/api/feedback", json=body | {"rating": 2}).status_code == 400
    assert client.post("/api/feedback", json=body | {"receipt_id": "rcpt_other"}).status_code == 400


def test_deleting_can_be_undone(server: Running) -> None:
    client = server.http()
    conversation = client.post("/api/conversations", json={}).json()["id"]
    assert client.delete(f"/api/conversations/{conversation}").status_code == 204
    assert client.get("/api/conversations").json() == []
    assert client.get(f"/api/conversations/{conversation}").status_code == 404
    assert client.post(f"/api/conversations/{conversation}/restore").status_code == 200
    assert len(client.get("/api/conversations").json()) == 1


def test_nobody_sees_or_changes_what_is_not_theirs(server: Running, registry: Registry) -> None:
    mine, theirs = server.http(), server.http(server.state.identity.create_key("mallory"))
    conversation = mine.post("/api/conversations", json={"title": "secret"}).json()["id"]
    receipt_id = store_receipt(registry, "admin")
    message = say(mine, conversation, "assistant", "secret", receipt_id=receipt_id)["id"]
    path = f"/api/conversations/{conversation}"
    own = theirs.post("/api/conversations", json={}).json()["id"]
    turn = {"role": "user", "content": "x"}
    attempts = [
        theirs.get(path),
        theirs.patch(path, json={"title": "mine now"}),
        theirs.delete(path),
        theirs.post(f"{path}/restore"),
        theirs.post(f"{path}/messages", json=turn),
        theirs.post(f"{path}/messages", json=turn | {"parent_id": message}),
        theirs.post(f"/api/conversations/{own}/messages", json=turn | {"receipt_id": receipt_id}),
        theirs.post("/api/feedback", json={"message_id": message, "receipt_id": receipt_id, "rating": -1}),
        theirs.get(f"/api/receipts/{receipt_id}"),
    ]
    assert [attempt.status_code for attempt in attempts] == [404] * len(attempts)
    assert not any("secret" in attempt.text for attempt in attempts)
    grafted = theirs.post(f"/api/conversations/{own}/messages", json=turn | {"parent_id": message})
    assert grafted.status_code == 400
    assert [row["id"] for row in theirs.get("/api/conversations").json()] == [own]
    found = mine.get(path).json()
    assert (found["title"], len(found["messages"]), found["messages"][0]["feedback"]) == ("secret", 1, None)
    assert mine.get(f"/api/receipts/{receipt_id}").json()["sampling"] == {"seed": 3}


@pytest.mark.parametrize(
    "body",
    [
        {"title": ""},
        {"title": "x" * 201},
        {"title": 5},
        {"titel": "x"},
        {"title": "\ud800"},
        {"title": "a\0b"},
    ],
)
def test_bad_bodies(server: Running, body: dict[str, Any]) -> None:
    import json

    response = server.http().post(
        "/api/conversations", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_stopped_reply_may_be_stored_before_its_receipt(server: Running) -> None:
    client = server.http()
    conversation = client.post("/api/conversations", json={}).json()["id"]
    say(client, conversation, "assistant", "half an ans", receipt_id=new_receipt_id())


def test_a_text_that_only_looks_like_a_nul_is_kept(server: Running) -> None:
    client = server.http()
    for title in (r"\u0000", r"\\u0000"):
        assert client.post("/api/conversations", json={"title": title}).json()["title"] == title
