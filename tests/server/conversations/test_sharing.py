"""Links: a snapshot for those it is meant for, as far as documents are open to them, until it is ended."""

from typing import Any

import pytest
from sqlalchemy import select

from cairn.registry import Registry
from cairn.server.conversations.tables import ShareRow
from tests.server.conftest import Running, Serve
from tests.server.conversations.talks import begin, citation, keep_document, say


def share(server: Running, conversation: str, **body: Any) -> Any:
    made = server.http().post(f"/api/conversations/{conversation}/shares", json=body)
    assert made.status_code == 201, made.text
    return made.json()


def said(shared: Any) -> list[str]:
    return [turn["content"] for turn in shared["turns"]]


@pytest.fixture
def reader(server: Running) -> str:
    """The key of somebody who may read and nothing more."""
    return server.state.identity.create_key("rita", roles=("viewer",))


def test_a_link_shows_the_conversation_as_it_was(server: Running, reader: str) -> None:
    client = server.http()
    conversation, turns = begin(client, "Boats", "question", "answer")
    made = share(server, conversation)
    say(client, conversation, "user", "later and private", turns[-1])
    client.patch(f"/api/conversations/{conversation}", json={"title": "A later title"})
    answer = server.http(reader).get(f"/api/shared/{made['token']}")
    assert answer.json() | {"turns": []} == {
        "title": "Boats",
        "model": "scripted",
        "owner": "admin",
        "created_at": made["created_at"],
        "turns": [],
    }
    assert said(answer.json()) == ["question", "answer"]
    for hidden in (conversation, *turns, made["share_id"], "later", "receipt", "feedback"):
        assert hidden not in answer.text


def test_only_the_versions_on_show_are_shared(server: Running, reader: str) -> None:
    client = server.http()
    conversation, (question, first) = begin(client, "Boats", "question", "first answer")
    say(client, conversation, "system", "be secretive")
    second = say(client, conversation, "assistant", "second answer", question)["id"]
    say(client, conversation, "user", "edited question")
    shown = {last: share(server, conversation, message_id=last)["token"] for last in (first, second)}
    newest = share(server, conversation)["token"]
    read = [said(server.http(reader).get(f"/api/shared/{each}").json()) for each in (*shown.values(), newest)]
    assert read == [["question", "first answer"], ["question", "second answer"], ["edited question"]]
    other, (elsewhere,) = begin(client, "Other", "x")
    wrong = client.post(f"/api/conversations/{conversation}/shares", json={"message_id": elsewhere})
    assert wrong.status_code == 404
    empty = client.post("/api/conversations", json={}).json()["id"]
    assert client.post(f"/api/conversations/{empty}/shares", json={}).status_code == 400
    assert other


def test_citations_open_what_the_reader_may_see_and_name_nothing_else(
    server: Running, registry: Registry, reader: str
) -> None:
    client = server.http()
    opened = keep_document(registry, "opened", ["everyone"])
    closed = keep_document(registry, "closed", ["user:admin"])
    conversation, (question,) = begin(client, "Sources", "what do they say?")
    cited = [citation(opened, "opened"), citation(closed, "closed", 2)]
    say(client, conversation, "assistant", "As written [1] [2].", question, annotations=cited)
    token = share(server, conversation)["token"]
    mine = client.get(f"/api/shared/{token}").json()["turns"][1]["annotations"]
    assert [each["quote"] for each in mine] == ["opened", "closed"]
    answer = server.http(reader).get(f"/api/shared/{token}")
    first, second = answer.json()["turns"][1]["annotations"]
    assert (first["is_open"], first["quote"], first["document_id"]) == (True, "opened", opened)
    assert (second["is_open"], second["number"]) == (False, 2)
    assert "closed" not in answer.text


def test_nobody_who_is_not_signed_in_reads_unless_the_operator_and_the_owner_allow_it(
    serve: Serve, registry: Registry
) -> None:
    server = serve()
    opened = keep_document(registry, "opened", ["everyone"])
    conversation, (question,) = begin(server.http(), "Boats", "question")
    cited = [citation(opened, "opened")]
    say(server.http(), conversation, "assistant", "answer [1]", question, annotations=cited)
    token = share(server, conversation)["token"]
    stranger = server.http("")
    assert stranger.get(f"/api/shared/{token}").status_code == 401
    assert stranger.get(f"/api/public/{token}").status_code == 404
    refused = server.http().post(f"/api/conversations/{conversation}/shares", json={"audience": "anyone"})
    assert (refused.status_code, "--public-links" in refused.text) == (403, True)
    assert server.http().get("/api/shares").json()["allows_anyone"] is False

    open_server = serve(public_links=True)
    public = share(open_server, conversation, audience="anyone")["token"]
    answer = open_server.http("").get(f"/api/public/{public}")
    assert (said(answer.json()), answer.json()["owner"]) == (["question", "answer [1]"], "")
    assert "opened" not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert open_server.http("").get(f"/api/public/{token}").status_code == 404
    assert open_server.http().get(f"/api/shared/{public}").json()["owner"] == "admin"
    # The operator thinks better of it: the links that were made are for people of the server again.
    assert server.http("").get(f"/api/public/{public}").status_code == 404
    assert server.http().get(f"/api/shared/{public}").status_code == 200


def test_links_are_listed_ended_and_audited(server: Running, registry: Registry, reader: str) -> None:
    client = server.http()
    conversation, _ = begin(client, "Boats", "question")
    first, second = share(server, conversation), share(server, conversation)
    listed = client.get("/api/shares").json()["shares"]
    assert [each["share_id"] for each in listed] == [second["share_id"], first["share_id"]]
    assert listed[1] == {key: first[key] for key in listed[1]}
    assert "token" not in listed[0]
    with registry.database.session(read_only=True) as session:
        kept = " ".join(str(vars(row)) for row in session.scalars(select(ShareRow)))
    assert first["token"] not in kept
    assert len(first["token"]) >= 43
    assert client.delete(f"/api/shares/{first['share_id']}").status_code == 204
    assert client.delete(f"/api/shares/{first['share_id']}").status_code == 404
    gone = server.http(reader).get(f"/api/shared/{first['token']}")
    assert (gone.status_code, "leads nowhere" in gone.text) == (404, True)
    assert server.http(reader).get(f"/api/shared/{second['token']}").status_code == 200
    entries = [each for each in registry.audit.entries() if each.action.startswith("conversation.")]
    assert [(each.action, each.actor, each.subject) for each in entries] == [
        ("conversation.share", "admin", first["share_id"]),
        ("conversation.share", "admin", second["share_id"]),
        ("conversation.unshare", "admin", first["share_id"]),
    ]
    assert registry.audit.verify() >= 3


def test_a_deleted_conversation_is_shared_no_more_and_stays_so(
    server: Running, registry: Registry, reader: str
) -> None:
    client = server.http()
    conversation, _ = begin(client, "Boats", "question")
    token = share(server, conversation)["token"]
    client.delete(f"/api/conversations/{conversation}")
    client.post(f"/api/conversations/{conversation}/restore")
    assert server.http(reader).get(f"/api/shared/{token}").status_code == 404
    assert client.get("/api/shares").json()["shares"] == []
    assert registry.audit.entries()[-1].action == "conversation.unshare"


def test_links_of_who_was_disabled_lead_nowhere(server: Running, reader: str) -> None:
    ann = server.http(server.state.identity.create_key("ann"))
    conversation, _ = begin(ann, "Boats", "question")
    token = ann.post(f"/api/conversations/{conversation}/shares", json={}).json()["token"]
    assert server.http(reader).get(f"/api/shared/{token}").status_code == 200
    disabled = server.http().patch("/api/people/ann", json={"is_disabled": True})
    assert disabled.status_code == 200, disabled.text
    assert server.http(reader).get(f"/api/shared/{token}").status_code == 404
