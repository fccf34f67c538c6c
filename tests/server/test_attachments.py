"""Attachments: read, counted or refused; part of a message, and gone with its conversation."""

from typing import Any

import httpx2

from tests.server.conftest import Running

STORY = b"# The fox\n\nThe fox went to the hill.\n"


def attach(client: httpx2.Client, name: str, content: bytes, model: str = "scripted") -> httpx2.Response:
    return client.post("/api/attachments", params={"name": name, "model": model}, content=content)


def test_an_attachment_is_read_counted_and_kept_with_its_message(server: Running) -> None:
    client = server.http()
    made: Any = attach(client, "fox.md", STORY).json()
    assert (made["filename"], made["size"], made["num_pages"]) == ("fox.md", len(STORY), 1)
    assert made["num_tokens"] > 0
    text = client.get(f"/api/attachments/{made['id']}").json()["text"]
    assert "The fox went to the hill." in text

    path = f"/api/conversations/{client.post('/api/conversations', json={}).json()['id']}"
    body = {"role": "user", "content": "Where?", "attachments": [made["id"]]}
    assert client.post(f"{path}/messages", json=body).json()["attachments"] == [made]
    # An edit of the message stands beside it with the same file.
    assert client.post(f"{path}/messages", json=body | {"content": "And?"}).status_code == 201
    assert [each["attachments"] for each in client.get(path).json()["messages"]] == [[made], [made]]
    assert client.delete(f"/api/attachments/{made['id']}").status_code == 409
    other = client.post("/api/conversations", json={}).json()["id"]
    assert client.post(f"/api/conversations/{other}/messages", json=body).status_code == 404

    client.delete(path)
    assert client.get(f"/api/attachments/{made['id']}").status_code == 404
    client.post(f"{path}/restore")
    assert client.get(f"/api/attachments/{made['id']}").json()["text"] == text


def test_what_was_not_sent_is_taken_away(server: Running) -> None:
    client = server.http()
    path = f"/api/attachments/{attach(client, 'fox.md', STORY).json()['id']}"
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404


def test_what_cannot_be_read_or_is_too_long_is_refused_with_the_way_out(server: Running) -> None:
    client = server.http()
    long = attach(client, "long.txt", b"The fox went to the hill. " * 400_000)
    assert (long.status_code, long.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "collection" in long.json()["error"]["message"]
    image = attach(client, "fox.png", b"\x89PNG")
    assert image.status_code == 400
    assert "no model here takes images" in image.json()["error"]["message"]
    assert (
        "nothing could be read from empty.txt"
        in attach(client, "empty.txt", b"  ").json()["error"]["message"]
    )
    assert attach(client, "fox.md", STORY, model="nobody").status_code == 404
