"""Single sign-on against a provider that runs: who gets in, as whom, and what is refused."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from cairn.core.errors import ConfigError
from cairn.server.config import SignOnConfig
from cairn.server.identity.sign_on import SignOn
from tests.server.conftest import Running, Serve
from tests.server.identity.provider import CLIENT, SECRET, Provider, running_provider

ADA = {
    "sub": "42",
    "preferred_username": "ada",
    "name": "Ada",
    "email": "ada@example.org",
    "email_verified": True,
}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as found:
        found.user = dict(ADA)
        yield found


@pytest.fixture
def server(serve: Serve, provider: Provider) -> Running:
    config = SignOnConfig(
        issuer=provider.issuer,
        client_id=CLIENT,
        client_secret=SECRET,
        name="Example",
        groups={"stones": "geology", "money": "finance"},
    )
    return serve(sign_on=config)


def sent_away(client: httpx2.Client) -> str:
    """Begin: to the provider and back to the address it sends the browser to."""
    begun = client.get("/sign-in/oidc")
    assert begun.status_code == 303, begun.text
    answer = httpx2.get(begun.headers["location"])
    assert answer.status_code == 302
    return answer.headers["location"]


def signed_on(server: Running) -> tuple[httpx2.Client, httpx2.Response]:
    client = server.http("")
    return client, client.get(sent_away(client))


def who(client: httpx2.Client) -> Any:
    return client.get("/api/session").json()


def test_the_first_sign_in_makes_the_account(server: Running, provider: Provider) -> None:
    assert server.http("").get("/api/sign-in").json() == {"single_sign_on": "Example"}
    client, answer = signed_on(server)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert (who(client)["user_id"], who(client)["roles"]) == ("ada", ["member"])
    found = server.http().get("/api/people/ada").json()
    assert (found["display_name"], found["email"], found["has_password"]) == ("Ada", "ada@example.org", False)
    # The next time it is the same account, whatever it is called there by then.
    provider.user["preferred_username"] = "countess"
    client, _ = signed_on(server)
    assert who(client)["user_id"] == "ada"
    actions = [each["action"] for each in server.http().get("/api/audit").json()["entries"]]
    assert actions.count("user.link") == actions.count("user.add") - 1 == 1  # the other is the administrator


def test_groups_follow_the_claim(server: Running, provider: Provider) -> None:
    server.http().post("/api/groups", json={"name": "by-hand"})
    provider.user["groups"] = ["stones", "unheard of"]
    client, _ = signed_on(server)
    assert who(client)["groups"] == ["geology"]
    server.http().put("/api/groups/by-hand/members/ada")
    provider.user["groups"] = ["money"]
    provider.groups_by_userinfo = True  # some providers tell them only there
    client, _ = signed_on(server)
    assert who(client)["groups"] == ["by-hand", "finance"]
    provider.user.pop("groups")
    client, _ = signed_on(server)
    assert who(client)["groups"] == ["by-hand"]


@pytest.mark.parametrize(
    "user",
    [
        {"sub": "666", "preferred_username": "admin"},
        {"sub": "666", "preferred_username": "Admin"},
        {"sub": "admin"},
        {"sub": "666", "preferred_username": "x", "email": "boss@example.org", "email_verified": True},
        {"sub": "666", "preferred_username": "boss@example.org"},
    ],
)
def test_nobody_becomes_somebody_else_by_name(
    server: Running, provider: Provider, user: dict[str, Any]
) -> None:
    server.http().patch("/api/people/admin", json={"email": "boss@example.org"})
    provider.user = user
    client, answer = signed_on(server)
    assert answer.status_code == 303
    assert who(client)["user_id"] != "admin"
    assert who(client)["roles"] == ["member"]


def test_an_address_that_is_another_accounts_name_is_left_out(server: Running, provider: Provider) -> None:
    server.http().post("/api/people", json={"user_id": "Grace@Example.org"})
    provider.user = {
        "sub": "7",
        "preferred_username": "grace",
        "email": "grace@example.org",
        "email_verified": True,
    }
    client, _ = signed_on(server)
    assert who(client)["user_id"] == "grace"
    assert server.http().get("/api/people/grace").json()["email"] is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("nonce", "nonce"),
        ("audience", "aud"),
        ("issuer", "iss"),
        ("expired", "expired"),
        ("at_hash", "at_hash"),
        ("key", "bad_signature"),
        ("unsigned", "none"),
    ],
)
def test_bad_tokens_are_refused(server: Running, provider: Provider, wrong: str, said: str) -> None:
    provider.wrong = wrong
    client, answer = signed_on(server)
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
    assert said in answer.json()["error"]["message"].split("does not hold: ")[1]
    assert client.get("/api/session").status_code == 401
    assert server.http().get("/api/people/ada").status_code == 404


def test_an_answer_holds_once_in_the_browser_that_asked(server: Running) -> None:
    client, other = server.http(""), server.http("")
    back = sent_away(client)
    assert other.get(back).status_code == 401  # somebody else's answer, put under a victim's browser
    sent_away(other)
    assert other.get(back).status_code == 401
    assert client.get(back).status_code == 303
    assert client.get(back).status_code == 401
    fresh = sent_away(client)
    assert client.get(fresh.replace("state=", "state=x")).status_code == 401
    assert client.get("/sign-in/oidc/callback?error=access_denied").status_code == 401
    page = client.get("/sign-in/oidc/callback?error=no", headers={"accept": "text/html"})
    assert (page.status_code, page.headers["location"]) == (303, "/?sign-in=failed")


def test_a_disabled_account_stays_out(server: Running) -> None:
    signed_on(server)
    server.http().patch("/api/people/ada", json={"is_disabled": True})
    client, answer = signed_on(server)
    assert answer.status_code == 401
    assert client.get("/api/session").status_code == 401


def test_without_a_provider_there_is_nothing_to_begin(serve: Serve) -> None:
    client = serve().http("")
    assert client.get("/api/sign-in").json() == {"single_sign_on": None}
    assert client.get("/sign-in/oidc").status_code == 404


def test_what_cannot_be_a_provider(serve: Serve) -> None:
    with pytest.raises(ConfigError, match="https"):
        SignOn(SignOnConfig(issuer="http://id.example.org", client_id="x"))
    server = serve(sign_on=SignOnConfig(issuer="http://127.0.0.1:9", client_id="x"))
    answer = server.http("").get("/sign-in/oidc")
    assert (answer.status_code, "does not answer" in answer.text) == (503, True)
    assert "client_secret" not in repr(SignOnConfig(issuer="https://x", client_id="x", client_secret="s"))
