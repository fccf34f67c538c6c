"""People, service accounts and groups, as administrators manage them."""

from typing import Any

import pytest

from cairn.retrieval.access import labels_of
from tests.server.conftest import Running


def add(server: Running, user: str, **more: Any) -> dict[str, Any]:
    answer = server.http().post("/api/people", json={"user_id": user, **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_people_are_added_changed_and_disabled(server: Running) -> None:
    client = server.http()
    made = add(server, "ada", display_name="Ada Lovelace", email="ADA@example.org", roles=["builder"])
    assert (made["email"], made["roles"], made["has_password"]) == ("ada@example.org", ["builder"], False)
    changed = client.patch("/api/people/ada", json={"roles": ["member"], "email": ""}).json()
    assert (changed["email"], changed["roles"], changed["display_name"]) == (None, ["member"], "Ada Lovelace")
    assert [each["user_id"] for each in client.get("/api/people").json()] == ["ada", "admin"]
    key = server.state.identity.create_key("ada")
    assert server.http(key).get("/api/session").status_code == 200
    assert client.patch("/api/people/ada", json={"is_disabled": True}).json()["is_disabled"]
    refused = server.http(key).get("/api/session")
    assert (refused.status_code, "ada is disabled" in refused.text) == (401, True)
    client.patch("/api/people/ada", json={"is_disabled": False})
    assert server.http(key).get("/api/session").status_code == 200
    actions = [each["action"] for each in client.get("/api/audit").json()["entries"]]
    for action in ("user.add", "user.roles", "user.change", "user.disable", "user.enable"):
        assert action in actions


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"user_id": "no blanks"}, 400),
        ({"user_id": ""}, 400),
        ({"user_id": "group:x"}, 400),
        ({"user_id": "x", "roles": ["boss"]}, 400),
        ({"user_id": "x", "roles": []}, 400),
        ({"user_id": "x", "roles": ["service", "admin"]}, 400),
        ({"user_id": "x", "roles": ["service"], "password": "a pile of stones"}, 400),
        ({"user_id": "x", "email": "nobody"}, 400),
        ({"user_id": "ADMIN"}, 409),
        ({"user_id": "x", "email": "taken@example.org"}, 409),
        ({"user_id": "taken@example.org"}, 409),
    ],
)
def test_wrong_accounts_are_refused(server: Running, body: dict[str, Any], status: int) -> None:
    add(server, "ada", email="taken@example.org")
    before = server.http().get("/api/people").json()
    assert server.http().post("/api/people", json=body).status_code == status
    assert server.http().get("/api/people").json() == before


def test_one_administrator_remains(server: Running) -> None:
    client = server.http()
    for change in ({"roles": ["member"]}, {"is_disabled": True}):
        assert client.patch("/api/people/admin", json=change).status_code == 409
    add(server, "ada", roles=["admin"])
    assert client.patch("/api/people/admin", json={"roles": ["member"]}).status_code == 200
    assert client.get("/api/people").status_code == 403  # felt at once
    key = server.state.identity.create_key("ada")
    assert server.http(key).patch("/api/people/ada", json={"is_disabled": True}).status_code == 409


def test_a_narrowed_administrator_cannot_widen(server: Running) -> None:
    """Who manages people and no more makes no administrator, nor takes over the one there is."""
    narrow = {"name": "people", "scopes": ["manage_people", "account", "chat"]}
    client = server.http(server.http().post("/api/keys", json=narrow).json()["key"])
    password = "a pile of stones"
    assert client.post("/api/people", json={"user_id": "x", "roles": ["admin"]}).status_code == 403
    assert client.put("/api/people/admin/password", json={"password": password}).status_code == 403
    assert client.patch("/api/people/admin", json={"display_name": "me"}).status_code == 403
    assert client.get("/api/people").status_code == 200


def test_groups_open_documents(server: Running) -> None:
    client = server.http()
    add(server, "ada")
    assert client.post("/api/groups", json={"name": "geology", "description": "stones"}).status_code == 201
    assert client.post("/api/groups", json={"name": "geology"}).status_code == 409
    assert client.post("/api/groups", json={"name": "no blanks"}).status_code == 400
    key = server.state.identity.create_key("ada")
    assert server.http(key).get("/api/session").json()["groups"] == []
    for _ in range(2):
        assert client.put("/api/groups/geology/members/ada").status_code == 204
    assert server.http(key).get("/api/session").json()["groups"] == ["geology"]
    assert "group:geology" in labels_of(server.state.identity.principal_for_key(key))
    (group,) = client.get("/api/groups").json()
    assert (group["name"], group["members"]) == ("geology", ["ada"])
    assert client.get("/api/people/ada").json()["groups"] == ["geology"]
    assert client.put("/api/groups/geology/members/nobody").status_code == 404
    assert client.put("/api/groups/nothing/members/ada").status_code == 404
    assert client.delete("/api/groups/geology/members/ada").status_code == 204
    assert client.delete("/api/groups/geology/members/ada").status_code == 404
    assert server.http(key).get("/api/session").json()["groups"] == []
    client.put("/api/groups/geology/members/ada")
    assert client.delete("/api/groups/geology").status_code == 204
    assert server.http(key).get("/api/session").json()["groups"] == []


def test_a_service_account_has_keys_alone(server: Running) -> None:
    add(server, "robot", roles=["service"])
    key = server.http().post("/api/issued-keys", json={"user_id": "robot"}).json()["key"]
    client = server.http(key)
    ask = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}
    assert client.post("/v1/chat/completions", json=ask).status_code == 200
    assert client.get("/api/conversations").status_code == 403
    assert client.get("/api/keys").status_code == 403
    assert (
        client.put("/api/account/password", json={"current": "", "new": "a pile of stones"}).status_code
        == 400
    )
