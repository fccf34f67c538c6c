"""Sign-in: keys, one-time links, cookies, foreign pages, foreign hosts, guessing."""

import httpx2
import pytest

from cairn.registry import Registry
from cairn.server.identity import Identity
from cairn.server.tables import KeyRow, SessionRow, SignInTokenRow
from tests.server.conftest import Running, Serve


def link(server: Running, *, seconds: float = 60, user: str = "admin") -> str:
    return server.state.identity.create_sign_in_token(user, seconds=seconds)


def signed_in(server: Running) -> httpx2.Client:
    client = server.http("")
    assert client.get("/sign-in", params={"token": link(server)}).status_code == 303
    return client


@pytest.mark.parametrize("path", ["/v1/models", "/api/conversations", "/api/artifacts", "/api/openapi.json"])
def test_nothing_without_signing_in(server: Running, path: str) -> None:
    assert server.http("").get(path).status_code == 401
    assert server.http("cairn_000000000000_x").get(path).status_code == 401
    assert server.http("nonsense").get(path).status_code == 401
    assert server.http().get(path).status_code == 200


def test_the_admin_key_is_made_once_and_only_its_hash_is_kept(registry: Registry) -> None:
    identity = Identity(registry.database)
    key = identity.ensure_admin()
    assert key is not None
    assert identity.ensure_admin() is None
    principal = identity.principal_for_key(key)
    assert (principal.user_id, principal.roles) == ("admin", frozenset({"admin", "member"}))
    token, cookie = (
        identity.create_sign_in_token("admin", seconds=9),
        identity.create_session("admin", seconds=9),
    )
    with registry.database.session(read_only=True) as session:
        rows = [*session.query(KeyRow), *session.query(SessionRow), *session.query(SignInTokenRow)]
        stored = repr([vars(row) for row in rows])
    assert len(rows) == 3
    assert not any(secret in stored for secret in (key.rsplit("_", 1)[1], token, cookie))


def test_a_revoked_key_is_useless(server: Running) -> None:
    identity = server.state.identity
    key = identity.create_key("ada")
    found = server.http(key).get("/api/session").json()
    assert (found["user_id"], found["roles"], found["groups"]) == ("ada", ["member"], [])
    assert "chat" in found["permissions"]
    assert "manage_people" not in found["permissions"]
    key_id = key.split("_")[1]
    assert key_id in [row.key_id for row in identity.list_keys()]
    identity.revoke_key(key_id)
    assert server.http(key).get("/api/session").status_code == 401


def test_a_link_signs_in_once(server: Running) -> None:
    client, token = server.http(""), link(server)
    response = client.get("/sign-in", params={"token": token})
    assert (response.status_code, response.headers["location"]) == (303, "/")
    cookie = response.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie  # plain http: a Secure cookie would not come back
    assert client.get("/api/session").json()["user_id"] == "admin"
    assert server.http("").get("/sign-in", params={"token": token}).status_code == 401
    assert server.http("").get("/sign-in", params={"token": link(server, seconds=-1)}).status_code == 401
    browser = server.http("").get("/sign-in", params={"token": token}, headers={"accept": "text/html"})
    assert (browser.status_code, browser.headers["location"]) == (303, "/?sign-in=expired")


def test_signing_in_with_a_key_and_out_again(server: Running) -> None:
    client = server.http("")
    assert client.post("/api/sign-in", json={"key": "wrong"}).status_code == 401
    assert client.post("/api/sign-in", json={"key": server.key}).json()["user_id"] == "admin"
    cookie = client.cookies["cairn_session"]
    assert client.get("/api/session").status_code == 200
    assert client.post("/api/sign-out").status_code == 204
    assert server.http("", cookies={"cairn_session": cookie}).get("/api/session").status_code == 401


def test_a_session_ends(serve: Serve) -> None:
    server = serve(session_seconds=0.001)
    client = signed_in(server)
    server.wait_until(lambda: client.get("/api/session").status_code == 401)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_foreign_pages_cannot_write(server: Running, headers: dict[str, str]) -> None:
    client = signed_in(server)
    assert client.post("/api/conversations", json={}).status_code == 403  # no browser leaves both out
    assert client.post("/api/conversations", json={}, headers=headers).status_code == 403
    assert client.get("/api/conversations").json() == []
    assert "access-control-allow-origin" not in client.get("/api/conversations", headers=headers).headers
    assert client.post("/api/conversations", json={}, headers={"origin": server.url}).status_code == 201
    own = {"sec-fetch-site": "same-origin"}
    assert client.post("/api/conversations", json={}, headers=own).status_code == 201
    form = {"content-type": "text/plain"}  # what a form of a foreign page can send at most
    assert client.post("/api/conversations", content="{}", headers=form | own).status_code == 400


def test_foreign_hosts_are_refused(serve: Serve) -> None:
    server = serve(allowed_hosts=("cairn.example",))
    client = server.http()
    for host, status in [
        ("evil.example", 421),
        ("", 421),
        ("evil.example:80", 421),
        ("127.0.0.1.evil.example", 421),
        (f"localhost:{server.port}", 200),
        ("127.0.0.1", 200),
        ("[::1]:8642", 200),
        ("Cairn.example", 200),
    ]:
        assert client.get("/api/session", headers={"host": host}).status_code == status, host


def test_guessing_is_slowed_down(serve: Serve) -> None:
    server = serve(sign_in_failures=3)
    client = server.http("")
    for _ in range(3):
        assert client.post("/api/sign-in", json={"key": "wrong"}).status_code == 401
    refused = client.post("/api/sign-in", json={"key": server.key})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 1
    assert client.get("/sign-in", params={"token": link(server)}).status_code == 429
    assert server.http("wrong").get("/v1/models").status_code == 429
    # A program with the right key behind the same address is not locked out.
    assert server.http().get("/v1/models").status_code == 200


def test_browsers_are_told_to_trust_nothing_else(server: Running) -> None:
    for path in ("/", "/api/session", "/nothing"):
        headers = server.http("").get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "'unsafe-eval'" not in headers["content-security-policy"]
        assert "script-src 'self';" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
    assert server.http().get("/api/session").headers["cache-control"] == "no-store"
    assert "server" not in server.http("").get("/").headers


def test_health_is_open_and_metrics_are_for_this_machine_and_administrators(server: Running) -> None:
    client = server.http("")
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/readyz").status_code == 200
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", headers={"x-forwarded-for": "1.2.3.4"}).status_code == 401
    assert server.http().get("/metrics", headers={"x-forwarded-for": "1.2.3.4"}).status_code == 200
    user = server.http(server.state.identity.create_key("ada"))
    assert user.get("/metrics", headers={"x-forwarded-for": "1.2.3.4"}).status_code == 403  # it names users
