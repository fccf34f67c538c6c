"""`/api/routes`: what is in force, changing it, and what is refused."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cairn.registry import Registry
from tests.providers.remote.upstream import FakeUpstream
from tests.server.conftest import Running, Script, Serve
from tests.server.routing.test_server import ask

TEXT = """\
# who answers
[routes.way]
targets = [{ model = "scripted" }]

[routes.way.canary]
percent = 0  # nobody yet
target = { model = "other" }
"""


@pytest.fixture
def server(registry: Registry, serve: Serve, script: Script) -> Running:
    (registry.settings.home / "routes.toml").write_text(TEXT)
    return serve(script(), script("the other", name="other"))


def test_health_is_live(server: Running) -> None:
    client = server.http()
    before = client.get("/api/routes").json()
    (route,) = before["routes"]
    assert [(target["name"], target["role"]) for target in route["targets"]] == [
        ("local/scripted", "target"),
        ("local/other", "canary"),
    ]
    assert (route["canary_percent"], route["targets"][0]["p50_seconds"]) == (0, None)
    for _ in range(3):
        assert ask(server).status_code == 200
    target = client.get("/api/routes").json()["routes"][0]["targets"][0]
    assert (target["num_requests"], target["error_rate"], target["outstanding"]) == (3, 0, 0)
    assert target["p50_seconds"] > 0


def test_the_canary_s_share_and_nothing_else_changes(server: Running) -> None:
    client = server.http()
    found = client.put("/api/routes/way/canary", json={"percent": 100})
    assert found.status_code == 200, found.text
    assert found.json()["text"] == TEXT.replace("percent = 0", "percent = 100")
    assert found.json()["routes"][0]["canary_percent"] == 100
    assert ask(server).headers["x-cairn-target"] == "local/other"
    assert client.put("/api/routes/way/canary", json={"percent": 101}).status_code == 400
    assert client.put("/api/routes/none/canary", json={"percent": 1}).status_code == 404


def test_a_text_is_in_force_at_once_or_refused_with_its_lines(server: Running) -> None:
    client = server.http()
    digest = client.get("/api/routes").json()["digest"]
    wrong = client.put("/api/routes", json={"text": TEXT.replace("percent = 0", "percent = 200")})
    assert wrong.status_code == 400
    assert "line 6" in wrong.json()["error"]["message"]
    assert client.get("/api/routes").json()["text"] == TEXT
    changed = client.put(
        "/api/routes", json={"text": '[routes.b]\ntargets = [{ model = "other" }]\n', "digest": digest}
    )
    assert [route["name"] for route in changed.json()["routes"]] == ["b"]
    assert ask(server, "b").headers["x-cairn-target"] == "local/other"
    lost = client.put("/api/routes", json={"text": "", "digest": digest})
    assert (lost.status_code, lost.json()["error"]["code"]) == (409, "conflict")


def test_mistakes_in_the_file_are_shown(server: Running, registry: Registry) -> None:
    (registry.settings.home / "routes.toml").write_text(TEXT + "\n[brekaer]\n")
    found = server.http().get("/api/routes").json()
    assert found["problems"] == [{"line": 9, "message": "unknown key 'brekaer', did you mean 'breaker'?"}]
    assert [route["name"] for route in found["routes"]] == ["way"]


def test_who_may_write_what(server: Running, registry: Registry) -> None:
    identity = server.state.identity
    member = server.http(identity.create_key("ann", roles=("member",)))
    builder = server.http(identity.create_key("bob", roles=("builder",)))
    for client in (member, server.http("")):
        assert client.get("/api/routes").status_code in (401, 403)
        assert client.put("/api/routes/way/canary", json={"percent": 1}).status_code in (401, 403)
    for client in (member, builder):  # the file says where keys of this server are sent
        assert client.put("/api/routes", json={"text": ""}).status_code == 403
    assert (registry.settings.home / "routes.toml").read_text() == TEXT
    assert builder.get("/api/routes").status_code == 200
    assert builder.put("/api/routes/way/canary", json={"percent": 1}).status_code == 200


def test_a_provider_s_key_is_nowhere_in_it(
    registry: Registry, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = FakeUpstream()
    monkeypatch.setenv("STONE_KEY", "sk-secret-stone")
    (registry.settings.home / "routes.toml").write_text(
        f'[providers.q]\nbase_url = "{upstream.url}"\nkey_env = "STONE_KEY"\n'
        '[routes.way]\ntargets = [{ provider = "q", model = "s" }]\n'
    )
    server = serve()
    assert ask(server).status_code == 200
    assert "sk-secret" not in server.http().get("/api/routes").text
    upstream.stop()


def test_changes_at_the_same_time_are_made_one_after_the_other(server: Running) -> None:
    def put(percent: int) -> int:
        return server.http().put("/api/routes/way/canary", json={"percent": percent}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(put, range(1, 17))) == {200}


def test_who_changed_a_route_is_in_the_audit_log(server: Running) -> None:
    client = server.http()
    before = client.get("/api/routes").json()
    client.put("/api/routes/way/canary", json={"percent": 25})
    client.put("/api/routes", json={"text": before["text"] + "# a note\n", "digest": None})
    client.put("/api/routes/way/canary", json={"percent": 101})
    client.put("/api/routes", json={"text": "[routes.", "digest": None})
    client.put("/api/routes", json={"text": before["text"], "digest": before["digest"]})  # of another text
    found = client.get("/api/audit", params={"action": "route.*"}).json()
    assert found["total"] == 2
    written, canary = found["entries"]
    assert (written["action"], written["actor"], written["subject"]) == (
        "route.write",
        "admin",
        "routes.toml",
    )
    assert (canary["action"], canary["actor"], canary["subject"]) == ("route.canary", "admin", "way")
    assert (canary["details"]["before"], canary["details"]["percent"]) == (0, 25)
    assert written["details"]["file_before"] == canary["details"]["file"]
    assert client.get("/api/routes").json()["digest"] == written["details"]["file"]
