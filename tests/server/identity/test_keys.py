"""Keys: scopes, models, expiry, rotation, last use; and the end of a stream whose key has none any more."""

import json
import time

import openai
import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from cairn.core.errors import AuthenticationError
from cairn.registry import MARKED_SECONDS, Registry
from cairn.server.identity import Identity, keys
from cairn.server.identity.principals import TRUST_SECONDS
from cairn.server.tables import KeyRow
from tests.server.conftest import REPLY, Running, Script, Serve

ASK = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}


def key_id(key: str) -> str:
    return key.split("_")[1]


def made(server: Running, key: str | None = None, **body: object) -> dict[str, str]:
    answer = server.http(key).post("/api/keys", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, str] = answer.json()
    return found


def test_scopes_narrow_a_key(server: Running) -> None:
    narrow = server.http(made(server, scopes=["chat"])["key"])
    assert narrow.post("/v1/chat/completions", json=ASK).status_code == 200
    refused = narrow.get("/v1/models")
    assert refused.status_code == 403
    assert "this key's scopes (chat) leave out read_models" in refused.json()["error"]["message"]
    assert server.http().post("/api/keys", json={"scopes": ["fly"]}).status_code == 400
    member = server.state.identity.create_key("ada")
    beyond = server.http(member).post("/api/keys", json={"scopes": ["manage_people"]})
    assert beyond.json()["error"]["param"] == "scopes"


def test_a_narrow_key_makes_none_that_is_wider(server: Running) -> None:
    narrow = made(server, scopes=["own_keys", "chat", "account"], models=["scripted"])["key"]
    client = server.http(narrow)
    for body in (
        {},
        {"scopes": ["chat"]},
        {"scopes": ["chat"], "models": ["scripted", "other"]},
        {"scopes": ["read_models"], "models": ["scripted"]},
    ):
        assert client.post("/api/keys", json=body).status_code == 403, body
    assert client.post("/api/keys", json={"scopes": ["chat"], "models": ["scripted"]}).status_code == 201
    # Nor through another key, a password or a session of its owner.
    wide = server.http().get("/api/keys").json()[0]["key_id"]
    assert client.post(f"/api/keys/{wide}/rotate", json={}).status_code == 403
    password = {"current": "", "new": "correct horse battery"}
    assert client.put("/api/account/password", json=password).status_code == 403
    assert server.http("").post("/api/sign-in", json={"key": narrow}).status_code == 401


def test_a_key_for_some_models(serve: Serve, script: Script) -> None:
    server = serve(script(), script("other words", name="other"))
    client = server.http(made(server, models=["other"])["key"])
    assert [each["id"] for each in client.get("/v1/models").json()["data"]] == ["other"]
    assert client.get("/v1/models/other").json()["id"] == "other"
    assert client.get("/v1/models/scripted").status_code == 404
    assert client.post("/v1/chat/completions", json={**ASK, "model": "other"}).status_code == 200
    for path, body in (
        ("/v1/chat/completions", ASK),
        ("/v1/completions", {"model": "scripted", "prompt": "a"}),
        ("/v1/embeddings", {"model": "scripted", "input": "a"}),
        ("/v1/classify", {"model": "scripted", "input": "a"}),
        ("/v1/rerank", {"model": "scripted", "query": "a", "documents": ["b"]}),
        ("/v1/messages", {**ASK, "max_tokens": 5}),
        ("/v1/messages/count_tokens", ASK),
        ("/v1/responses", {"model": "scripted", "input": "a"}),
    ):
        refused = client.post(path, json=body)
        assert refused.status_code == 403, path
        assert "not for the model 'scripted'; ask for one of these: other" in refused.text


def test_an_expired_key_is_useless(server: Running) -> None:
    key = made(server, expires_at=time.time() + 3600)["key"]
    assert server.http(key).get("/api/session").status_code == 200
    with server.state.identity.changing() as change:
        keys.find(change.session, key_id(key)).expires_at = time.time() - 1
    refused = server.http(key).get("/api/session")
    assert (refused.status_code, "is expired" in refused.text) == (401, True)
    assert server.http().post("/api/keys", json={"expires_at": time.time() - 1}).status_code == 400
    listed = {each["key_id"]: each["state"] for each in server.http().get("/api/keys").json()}
    assert listed[key_id(key)] == "expired"


def test_what_is_remembered_of_a_key_ends_with_it(registry: Registry) -> None:
    identity = Identity(registry.database)
    key = identity.create_key("ada", seconds=3600)
    assert identity.principal_for_key(key).user_id == "ada"
    assert identity.remembered("key", key) is not None
    with pytest.MonkeyPatch.context() as patch:
        later = time.monotonic() + MARKED_SECONDS
        patch.setattr("time.monotonic", lambda: later)
        assert identity.remembered("key", key) is None
    with pytest.MonkeyPatch.context() as patch:
        now = time.time()
        patch.setattr("time.time", lambda: now + 3601)
        assert identity.remembered("key", key) is None
        with pytest.raises(AuthenticationError, match="expired"):
            identity.principal_for_key(key)
    identity.revoke_key(key_id(key))
    assert identity.remembered("key", key) is None
    with pytest.raises(AuthenticationError, match="revoked"):
        identity.principal_for_key(key)


def test_what_was_read_before_a_change_is_not_remembered_after_it(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = Identity(registry.database)
    key = identity.create_key("ada")
    verified = keys.verified

    def verified_just_before(session: Session, secret: str) -> tuple[KeyRow, float]:
        found = verified(session, secret)
        identity.revoke_key(key_id(key))
        return found

    monkeypatch.setattr(keys, "verified", verified_just_before)
    assert identity.principal_for_key(key).user_id == "ada"
    monkeypatch.undo()
    with pytest.raises(AuthenticationError, match="revoked"):
        identity.principal_for_key(key)


def test_another_process_is_heard(either_registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    here, elsewhere = Identity(either_registry.database), Identity(either_registry.database)
    key = here.create_key("ada")
    assert here.principal_for_key(key).user_id == "ada"
    assert here.remembered("key", key) is not None
    elsewhere.revoke_key(key_id(key))
    if not either_registry.database.is_sqlite:  # within seconds; else at once
        at = time.monotonic()
        monkeypatch.setattr("time.monotonic", lambda: at + TRUST_SECONDS)
    assert here.remembered("key", key) is None
    with pytest.raises(AuthenticationError, match="revoked"):
        here.principal_for_key(key)


def test_the_last_use_of_a_key_that_is_remembered_is_noted(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity, start = Identity(registry.database), time.time()
    key = identity.create_key("ada")
    times = []
    for minute in (0.0, 0.5, 1.5):
        monkeypatch.setattr("time.time", lambda minute=minute: start + 60 * minute)
        assert identity.principal_for_key(key).user_id == "ada"
        identity.write_uses()
        times.append(identity.list_keys()[0].last_used_at)
    assert times == [start, start, start + 90]


def test_rotation_keeps_the_old_secret_for_a_while(server: Running) -> None:
    old = made(server, name="robot", scopes=["account"])["key"]
    client = server.http()
    rotated = client.post(f"/api/keys/{key_id(old)}/rotate", json={"overlap_seconds": 60})
    new = rotated.json()["key"]
    assert rotated.json()["key_id"] == key_id(old) == key_id(new)
    assert (rotated.json()["name"], rotated.json()["scopes"]) == ("robot", ["account"])
    assert rotated.json()["old_until"] > time.time()
    assert [server.http(key).get("/api/session").status_code for key in (old, new)] == [200, 200]
    again = client.post(f"/api/keys/{key_id(old)}/rotate", json={"overlap_seconds": 0}).json()["key"]
    statuses = [server.http(key).get("/api/session").status_code for key in (old, new, again)]
    assert statuses == [401, 401, 200]
    assert client.delete(f"/api/keys/{key_id(old)}").status_code == 204
    assert client.post(f"/api/keys/{key_id(old)}/rotate", json={}).status_code == 409


def test_keys_belong_to_somebody(server: Running) -> None:
    identity = server.state.identity
    ada, bob = identity.create_key("ada"), identity.create_key("bob")
    client = server.http(ada)
    assert [each["key_id"] for each in client.get("/api/keys").json()] == [key_id(ada)]
    assert client.delete(f"/api/keys/{key_id(bob)}").status_code == 404
    assert client.post(f"/api/keys/{key_id(bob)}/rotate", json={}).status_code == 404
    admin = server.http()
    assert {each["user_id"] for each in admin.get("/api/issued-keys").json()} == {"admin", "ada", "bob"}
    issued = admin.post("/api/issued-keys", json={"user_id": "ada", "name": "from above"}).json()
    assert server.http(issued["key"]).get("/api/session").json()["user_id"] == "ada"
    assert admin.delete(f"/api/issued-keys/{issued['key_id']}").status_code == 204
    assert server.http(issued["key"]).get("/api/session").status_code == 401
    assert admin.post("/api/issued-keys", json={"user_id": "nobody"}).status_code == 404


def test_the_last_use_is_written_once_a_minute(registry: Registry) -> None:
    identity = Identity(registry.database)
    key = identity.create_key("ada")
    identity.principal_for_key(key)
    assert identity.has_uses
    identity.write_uses()
    (row,) = identity.list_keys()
    assert row.last_used_at is not None
    assert abs(row.last_used_at - time.time()) < 60
    with identity.changing():
        pass  # nothing is remembered any more
    identity.principal_for_key(key)
    assert not identity.has_uses
    with registry.database.writing() as session:
        session.execute(update(KeyRow).values(last_used_at=row.last_used_at - 61))
    with identity.changing():
        pass
    identity.principal_for_key(key)
    assert identity.has_uses


def test_requests_note_the_use(server: Running) -> None:
    key = server.state.identity.create_key("ada")
    assert server.http(key).get("/api/session").status_code == 200

    def is_written() -> bool:
        return any(row.last_used_at for row in server.state.identity.list_keys() if row.user_id == "ada")

    server.wait_until(is_written)


def test_changes_are_audited(server: Running) -> None:
    client = server.http()
    found = client.post("/api/keys", json={"name": "robot"}).json()
    client.post(f"/api/keys/{found['key_id']}/rotate", json={})
    client.delete(f"/api/keys/{found['key_id']}")
    entries = client.get("/api/audit", params={"limit": 3}).json()["entries"]
    assert [each["action"] for each in entries] == ["key.revoke", "key.rotate", "key.create"]
    assert {(each["actor"], each["subject"]) for each in entries} == {("admin", found["key_id"])}
    assert found["key"].split("_")[2] not in json.dumps(entries)
    assert server.state.registry.audit.verify() > 3


@pytest.mark.parametrize("how", ["revoke", "disable", "demote"])
def test_a_stream_ends_when_its_key_does(serve: Serve, script: Script, how: str) -> None:
    scripted = script(REPLY * 20)
    scripted.runner.is_gated = True
    server = serve(scripted, recheck_seconds=0.05)
    identity = server.state.identity
    key = identity.create_key("ada")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=60)
    with client, client.chat.completions.create(**ASK, stream=True) as stream:  # type: ignore[call-overload]
        scripted.runner.gate.release(2)
        chunks = iter(stream)
        next(chunks)
        admin = server.http()
        if how == "revoke":
            identity.revoke_key(key_id(key))
        elif how == "disable":
            assert admin.patch("/api/people/ada", json={"is_disabled": True}).status_code == 200
        else:
            assert admin.patch("/api/people/ada", json={"roles": ["viewer"]}).status_code == 200
        said = {"revoke": "is revoked", "disable": "ada is disabled", "demote": r"ada \(viewer\) may not"}
        with pytest.raises(openai.APIError, match=said[how]):
            list(chunks)
    scripted.runner.is_gated = False
    scripted.runner.gate.release(1000)
    server.wait_until(lambda: scripted.provider.load().running == 0)
