"""Saved prompts: one's own, and those that somebody who may offers to everyone."""

from cairn.registry import Registry
from tests.server.conftest import Running


def test_a_prompt_from_beginning_to_end(server: Running) -> None:
    client = server.http()
    body = {"name": " Sum up ", "content": "Sum up {{ text }} in {{number}} lines, {{text}}. {{}} {{a\nb}}"}
    made = client.post("/api/prompts", json=body).json()
    assert (made["name"], made["variables"]) == ("Sum up", ["text", "number"])
    assert (made["owner"], made["is_shared"], made["may_change"]) == ("admin", False, True)
    changed = client.patch(f"/api/prompts/{made['prompt_id']}", json={"content": "Only {{this}}"}).json()
    assert (changed["name"], changed["variables"]) == ("Sum up", ["this"])
    client.post("/api/prompts", json={"name": "a first", "content": "x"})
    assert [each["name"] for each in client.get("/api/prompts").json()] == ["a first", "Sum up"]
    assert client.delete(f"/api/prompts/{made['prompt_id']}").status_code == 204
    assert [each["name"] for each in client.get("/api/prompts").json()] == ["a first"]
    for bad in ({"name": "x"}, {"name": " ", "content": "x"}, {"name": "x", "content": "x", "who": "all"}):
        assert client.post("/api/prompts", json=bad).status_code == 400


def test_what_is_shared_is_everybodys_to_use_and_some_peoples_to_change(
    server: Running, registry: Registry
) -> None:
    identity = server.state.identity
    builder = server.http(identity.create_key("bea", roles=("builder",)))
    ann, bob = server.http(identity.create_key("ann")), server.http(identity.create_key("bob"))
    own = ann.post("/api/prompts", json={"name": "ann's", "content": "x"}).json()["prompt_id"]
    assert ann.patch(f"/api/prompts/{own}", json={"is_shared": True}).status_code == 403
    refused = ann.post("/api/prompts", json={"name": "n", "content": "x", "is_shared": True})
    assert (refused.status_code, "share_prompts" in refused.text) == (403, True)
    assert len(ann.get("/api/prompts").json()) == 1
    assert builder.patch(f"/api/prompts/{own}", json={"is_shared": True}).status_code == 404

    body = {"name": "for all", "content": "x", "is_shared": True}
    shared = builder.post("/api/prompts", json=body).json()["prompt_id"]
    (seen,) = bob.get("/api/prompts").json()
    assert (seen["name"], seen["owner"], seen["may_change"]) == ("for all", "bea", False)
    assert bob.patch(f"/api/prompts/{shared}", json={"content": "y"}).status_code == 403
    assert bob.delete(f"/api/prompts/{shared}").status_code == 403
    admin = server.http()
    assert admin.patch(f"/api/prompts/{shared}", json={"content": "y"}).json()["content"] == "y"
    assert admin.patch(f"/api/prompts/{shared}", json={"is_shared": False}).status_code == 200
    assert bob.get("/api/prompts").json() == []
    assert admin.delete(f"/api/prompts/{shared}").status_code == 404
    entries = [each for each in registry.audit.entries() if each.action.startswith("prompt.")]
    assert [(each.action, each.actor, each.subject) for each in entries] == [
        ("prompt.share", "bea", shared),
        ("prompt.unshare", "admin", shared),
    ]


def test_who_lost_the_permission_changes_what_all_see_no_more(server: Running) -> None:
    identity = server.state.identity
    bea = server.http(identity.create_key("bea", roles=("builder",)))
    body = {"name": "for all", "content": "x", "is_shared": True}
    shared = bea.post("/api/prompts", json=body).json()["prompt_id"]
    narrowed = server.http(identity.create_key("bea", scopes=["conversations"]))
    assert narrowed.patch(f"/api/prompts/{shared}", json={"content": "y"}).status_code == 403
    assert narrowed.patch(f"/api/prompts/{shared}", json={"is_shared": False}).status_code == 200
