"""Signing in by password: who may, how guessing is slowed down, and what a session is."""

import time
from typing import Any

import httpx2
import pytest

from cairn.core.errors import AuthenticationError, OverloadedError
from cairn.server.identity import passwords
from cairn.server.identity.throttle import FailureLimiter, address_source
from cairn.server.tables import SessionRow
from tests.server.conftest import Running, Serve

PASSWORD = "a pile of stones"


def with_password(server: Running, user: str = "ada", *, email: str | None = None) -> None:
    person = {"user_id": user, "email": email, "password": PASSWORD}
    assert server.http().post("/api/people", json=person).status_code == 201


def sign_in(client: httpx2.Client, name: str = "ada", password: str = PASSWORD) -> httpx2.Response:
    return client.post("/api/sign-in/password", json={"name": name, "password": password})


def browser(server: Running, *, headers: dict[str, str] | None = None, **options: Any) -> httpx2.Client:
    client = server.http("", **options)
    client.headers.update({"origin": server.url, **(headers or {})})
    return client


def test_a_password_signs_in(server: Running) -> None:
    with_password(server, email="Ada@Example.org")
    for name in ("ada", "ada@example.org", "ADA@example.org"):
        client = browser(server)
        assert sign_in(client, name).json()["user_id"] == "ada"
        assert client.get("/api/session").json()["user_id"] == "ada"
    cookies = sign_in(browser(server)).headers.get_list("set-cookie")
    assert len(cookies) == 2
    assert all("HttpOnly" in each and "SameSite=strict" in each and "Path=/" in each for each in cookies)
    refused = sign_in(browser(server), password="another pile")
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")


def test_only_hashes_are_kept(server: Running) -> None:
    with_password(server)
    client = browser(server)
    sign_in(client)
    from cairn.server.tables import DeviceRow, UserRow

    with server.state.identity.reading() as session:
        rows = [*session.query(UserRow), *session.query(SessionRow), *session.query(DeviceRow)]
        stored = repr([vars(row) for row in rows])
    assert "$argon2id$" in stored
    secrets = (PASSWORD, client.cookies["cairn_session"], client.cookies["cairn_device"])
    assert not any(secret in stored for secret in secrets)


def test_nobody_without_a_password_gets_in(server: Running) -> None:
    client = server.http()
    client.post("/api/people", json={"user_id": "bob"})
    service = {"user_id": "robot", "roles": ["service"]}
    assert client.post("/api/people", json=service).status_code == 201
    assert client.put("/api/people/robot/password", json={"password": PASSWORD}).status_code == 400
    with_password(server)
    said = set()
    for name, password in (
        ("bob", ""),
        ("bob", PASSWORD),
        ("robot", ""),
        ("nobody", PASSWORD),
        ("ada", PASSWORD + " "),
    ):
        answer = sign_in(browser(server), name, password)
        assert answer.status_code == 401
        said.add(answer.json()["error"]["message"])
    assert len(said) == 1  # which of them was wrong is not told
    client.patch("/api/people/ada", json={"is_disabled": True})
    assert sign_in(browser(server)).status_code == 401


def test_unknown_names_cost_the_same_work(monkeypatch: pytest.MonkeyPatch, server: Running) -> None:
    with_password(server)
    asked: list[str] = []
    verify = passwords._HASHER.verify

    class Counting:
        def verify(self, kept: str, password: str) -> bool:
            asked.append(kept)
            return bool(verify(kept, password))

    monkeypatch.setattr(passwords, "_HASHER", Counting())
    for name in ("ada", "nobody"):
        assert sign_in(browser(server), name, "wrong").status_code == 401
    kept, nobodys = asked
    assert kept.split("$")[:4] == nobodys.split("$")[:4]  # the same algorithm with the same parameters
    assert nobodys == passwords.NOBODYS
    assert [len(part) for part in kept.split("$")] == [len(part) for part in nobodys.split("$")]


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaaaa", "ada-lovelace", "x" * 1001])
def test_easy_passwords_are_refused(server: Running, password: str) -> None:
    person = {"user_id": "ada-lovelace", "password": password}
    answer = server.http().post("/api/people", json=person)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "password")
    assert server.http().get("/api/people/ada-lovelace").status_code == 404


def test_the_same_characters_from_another_keyboard(server: Running) -> None:
    hashed = passwords.hashed("caf\u00e9 au lait", user_id="ada")
    assert passwords.is_right(hashed, "cafe\u0301 au lait")
    assert not passwords.needs_rehash(hashed)


def test_guessing_at_an_account_does_not_lock_its_owner_out(serve: Serve) -> None:
    server = serve(sign_in_failures=3, trust_proxy=True)
    with_password(server)
    with_password(server, "bob")
    known = browser(server)
    assert sign_in(known).status_code == 200

    def stranger(address: str) -> httpx2.Client:
        return browser(server, headers={"x-forwarded-for": address})

    for place in range(3):
        assert sign_in(stranger(f"203.0.113.{place}"), password="a wrong one").status_code == 401
    refused = sign_in(stranger("203.0.113.9"))
    assert refused.status_code == 429  # from an address that never failed: the account is guessed at
    assert int(refused.headers["retry-after"]) > 1
    assert sign_in(stranger("203.0.113.9"), "bob").status_code == 200
    # In a browser where Ada was before she gets in, and her own slips count by themselves.
    assert sign_in(known).status_code == 200
    for _ in range(3):
        assert sign_in(known, password="a wrong one").status_code == 401
    assert sign_in(known).status_code == 429
    # Somebody else's browser is none of hers.
    other = browser(server, headers={"x-forwarded-for": "203.0.113.50"})
    assert sign_in(other, "bob").status_code == 200
    assert sign_in(other, "ada").status_code == 429


def test_an_unknown_account_is_slowed_down_like_a_known_one(serve: Serve) -> None:
    server = serve(sign_in_failures=2, trust_proxy=True)
    with_password(server)
    for name in ("ada", "nobody"):
        statuses = [
            sign_in(
                browser(server, headers={"x-forwarded-for": f"198.51.100.{place}"}), name, "no"
            ).status_code
            for place in range(3)
        ]
        assert statuses == [401, 401, 429]


def test_guesses_at_the_same_time_are_counted_before_they_are_checked() -> None:
    limiter = FailureLimiter(2)
    with limiter.attempt("here"), limiter.attempt("here"):
        with pytest.raises(OverloadedError, match="too many"), limiter.attempt("elsewhere", "here"):
            raise AssertionError("a third guess was looked at")
        with limiter.attempt("elsewhere"), limiter.attempt("elsewhere"):
            pass  # the one that was refused counts nowhere
    for _ in range(2):  # both were right
        with pytest.raises(AuthenticationError), limiter.attempt("here"):
            raise AuthenticationError("a wrong guess")
    with pytest.raises(OverloadedError), limiter.attempt("here"):
        raise AssertionError("a guess after two wrong ones was looked at")


def test_the_password_of_now_is_not_guessed_by_changing_it(serve: Serve) -> None:
    server = serve(sign_in_failures=3)
    with_password(server)
    client = browser(server)
    sign_in(client)
    change = {"current": "a wrong one", "new": "another pile of stones"}
    statuses = [client.put("/api/account/password", json=change).status_code for _ in range(4)]
    assert statuses == [400, 400, 400, 429]


def test_an_address_is_what_one_customer_has() -> None:
    assert address_source("2001:db8:1:2:3::4") == address_source("2001:db8:1:2:ffff::1")
    assert address_source("2001:db8:1:2:3::4") != address_source("2001:db8:1:3::4")
    assert address_source("192.0.2.1") != address_source("192.0.2.2")
    assert address_source("local") == "address local"


def test_signing_in_makes_a_new_session_and_ends_the_one_before(server: Running) -> None:
    with_password(server)
    client = browser(server)
    sign_in(client)
    before = client.cookies["cairn_session"]
    sign_in(client)
    assert client.cookies["cairn_session"] != before
    assert server.http("", cookies={"cairn_session": before}).get("/api/session").status_code == 401
    # One that somebody else put into the browser is not taken over.
    planted = browser(server, cookies={"cairn_session": "planted"})
    assert "cairn_session=planted" not in sign_in(planted).headers["set-cookie"]


def test_sessions_are_listed_and_ended(server: Running) -> None:
    with_password(server)
    with_password(server, "bob")
    here, there, other = (
        browser(server, headers={"user-agent": each}) for each in ("Here/1", "There/1", "X")
    )
    for client, name in ((here, "ada"), (there, "ada"), (other, "bob")):
        assert sign_in(client, name).status_code == 200
    found = here.get("/api/account/sessions").json()
    assert {(each["agent"], each["is_current"]) for each in found} == {("Here/1", True), ("There/1", False)}
    assert {each["address"] for each in found} == {"127.0.0.1"}
    (elsewhere,) = (each["session_id"] for each in found if not each["is_current"])
    assert other.delete(f"/api/account/sessions/{elsewhere}").status_code == 404
    assert here.delete(f"/api/account/sessions/{elsewhere}").status_code == 204
    assert [each.get("/api/session").status_code for each in (here, there, other)] == [200, 401, 200]
    admin = server.http()
    assert len(admin.get("/api/people/ada/sessions").json()) == 1
    assert admin.delete("/api/people/ada/sessions").status_code == 204
    assert [each.get("/api/session").status_code for each in (here, other)] == [401, 200]


def test_a_session_lasts_while_it_is_used_up_to_its_end(server: Running) -> None:
    identity = server.state.identity
    cookie = identity.create_session("admin", seconds=1000, most=3000)
    now = time.time()

    def used_after(seconds: float) -> float:
        with server.state.registry.database.writing() as session:
            row = session.query(SessionRow).one()
            row.last_seen_at -= seconds
            row.expires_at -= seconds
            row.ends_at -= seconds
        with identity.changing():
            pass  # nothing is remembered any more
        identity.principal_for("session", cookie)
        assert identity.has_uses
        identity.write_uses()
        with identity.reading() as session:
            return float(session.query(SessionRow).one().expires_at - time.time())

    assert used_after(900) == pytest.approx(1000, abs=30)
    assert used_after(900) == pytest.approx(1000, abs=30)
    assert used_after(900) == pytest.approx(300, abs=30)  # the end, whatever is used
    assert time.time() - now < 30


def test_changing_ones_password(server: Running) -> None:
    with_password(server)
    here, there = browser(server), browser(server)
    sign_in(here)
    sign_in(there)
    wrong = here.put("/api/account/password", json={"current": "x", "new": "another pile of stones"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "current")
    right = {"current": PASSWORD, "new": "another pile of stones"}
    assert here.put("/api/account/password", json=right).status_code == 204
    assert [each.get("/api/session").status_code for each in (here, there)] == [200, 401]
    assert sign_in(browser(server)).status_code == 401
    assert sign_in(browser(server), password="another pile of stones").status_code == 200
    assert here.put("/api/account/password", json={**right, "new": "short"}).status_code in (400, 401)


def test_a_browser_over_https_keeps_its_cookies_to_it(serve: Serve) -> None:
    server = serve(trust_proxy=True)
    with_password(server)
    proxied = {"x-forwarded-proto": "https", "origin": server.url.replace("http:", "https:")}
    cookies = server.http("").post(
        "/api/sign-in/password", json={"name": "ada", "password": PASSWORD}, headers=proxied
    )
    assert cookies.status_code == 200, cookies.text
    assert all("Secure" in each for each in cookies.headers.get_list("set-cookie"))


def test_signing_out_everywhere_ends_every_session(server: Running) -> None:
    with_password(server)
    here, there = browser(server), browser(server)
    for client in (here, there):
        assert sign_in(client).status_code == 200
    assert here.delete("/api/account/sessions").status_code == 204
    assert [each.get("/api/session").status_code for each in (here, there)] == [401, 401]
    last = server.http().get("/api/audit").json()["entries"][0]
    assert (last["action"], last["actor"], last["details"]) == ("session.end", "ada", {"session": "all"})


def test_who_one_is(server: Running) -> None:
    with_password(server)
    client = browser(server)
    sign_in(client)
    found = client.get("/api/account").json()
    assert (found["user_id"], found["roles"], found["has_password"]) == ("ada", ["member"], True)
    assert "hash" not in str(found)
