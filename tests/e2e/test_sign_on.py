"""Single sign-on in a browser: through an identity provider that runs, and back."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import PHONE, overflow, violations
from tests.e2e.serving import Up, serving
from tests.server.identity.provider import CLIENT, SECRET, Provider, running_provider

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running_provider() as found:
        found.user = {"sub": "42", "preferred_username": "ada", "name": "Ada Lovelace"}
        yield found


@pytest.fixture(scope="module")
def house(built_page: Path, provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A server of its own that knows the provider."""
    file = tmp_path_factory.mktemp("sign-on") / "sign-on.toml"
    known = {"issuer": provider.issuer, "client_id": CLIENT, "client_secret": SECRET, "name": "Example"}
    file.write_text("\n".join(f'{name} = "{value}"' for name, value in known.items()))
    with serving(tmp_path_factory.mktemp("home"), "--sign-on", str(file)) as up:
        yield up


@pytest.fixture
def stranger(house: Up, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(base_url=house.url, viewport=PHONE)  # type: ignore[arg-type]
    yield context.new_page()
    context.close()


def test_one_button_signs_in(stranger: Page, provider: Provider, axe: str) -> None:
    provider.wrong = ""
    stranger.goto("/keys")
    button = stranger.get_by_role("link", name="Example")
    expect(button).to_be_visible()
    assert violations(stranger, axe) == []
    assert overflow(stranger) == []
    button.click()
    expect(stranger.get_by_role("textbox", name="Message")).to_be_visible()
    stranger.goto("/settings")
    expect(stranger.get_by_text("Signed in as ada")).to_be_visible()
    expect(stranger.get_by_text("Ada Lovelace")).to_be_visible()
    stranger.get_by_role("button", name="Sign out everywhere").click()
    stranger.get_by_role("dialog").get_by_role("button", name="Sign out").click()
    expect(stranger).to_have_url(re.compile("/welcome"))
    assert stranger.request.get("/api/session").status == 401


def test_an_answer_that_does_not_hold_is_told(stranger: Page, provider: Provider) -> None:
    provider.wrong = "nonce"
    stranger.goto("/welcome")
    stranger.get_by_role("link", name="Example").click()
    expect(stranger.get_by_role("alert")).to_be_visible()
    expect(stranger.get_by_role("link", name="Example")).to_be_visible()
    assert stranger.request.get("/api/session").status == 401
