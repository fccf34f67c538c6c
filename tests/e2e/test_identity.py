"""The pages of accounts: people and groups, keys, passwords, sessions, and signing in."""

import re
import time

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import PHONE, WIDE, overflow, violations
from tests.e2e.serving import Up

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

PASSWORD = "a pile of stones"


def add_ada(page: Page, name: str = "") -> str:
    """Somebody with a password, added on the page."""
    user = name or f"ada-{time.time_ns()}"
    page.goto("/people")
    page.get_by_role("button", name="Add somebody").click()
    page.get_by_label("User name").fill(user)
    page.get_by_label("Name that is shown").fill("Ada Lovelace")
    page.get_by_label(re.compile("Password, if any")).fill(PASSWORD)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("cell", name=user)).to_be_visible()
    return user


def test_somebody_is_added_and_signs_in(up: Up, page: Page, browser: Browser) -> None:
    user = add_ada(page)
    context = browser.new_context(base_url=up.url)
    theirs = context.new_page()
    theirs.goto("/people")
    theirs.get_by_label("Name or e-mail address").fill(user)
    theirs.locator("#password").fill("a wrong password")
    theirs.get_by_role("button", name="Sign in").click()
    expect(theirs.get_by_role("alert")).to_contain_text("Name or password is not right")
    theirs.locator("#password").fill(PASSWORD)
    theirs.get_by_role("button", name="Sign in").click()
    # Back where they wanted to go, which is not theirs to see: the rail does not offer it either.
    expect(theirs.get_by_role("alert")).to_contain_text("may not add people")
    rail = theirs.get_by_role("navigation", name="Rooms")
    expect(rail.get_by_role("link", name="Keys")).to_be_visible()
    expect(rail.get_by_role("link", name="People")).to_have_count(0)
    # Their password, and a session that ends from elsewhere.
    theirs.goto("/settings")
    theirs.get_by_label(re.compile("Current password")).fill("a wrong password")
    theirs.get_by_label(re.compile("New password")).fill("another pile of stones")
    theirs.get_by_role("button", name="Change it").click()
    expect(theirs.get_by_role("alert")).to_contain_text("current password is not right")
    theirs.get_by_label(re.compile("Current password")).fill(PASSWORD)
    theirs.get_by_role("button", name="Change it").click()
    expect(theirs.get_by_text("Your password is changed", exact=False).first).to_be_visible()
    expect(theirs.get_by_text("this one")).to_be_visible()
    # Disabled: signed out at the next thing they do, and let in again when it is undone.
    page.get_by_role("button", name="Ada Lovelace").last.click()
    page.get_by_role("button", name="Disable").click()
    expect(page.get_by_text(f"{user} is disabled").first).to_be_visible()
    theirs.get_by_role("link", name="Runs").click()
    expect(theirs.get_by_role("button", name="Sign in")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text(f"{user} is enabled").first).to_be_visible()
    context.close()


def test_a_key_is_made_narrowed_rotated_and_revoked(page: Page) -> None:
    name = f"nightly-{time.time_ns()}"
    page.goto("/keys")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("What it is for").fill(name)
    page.get_by_label("Only some of it").check()
    page.get_by_role("combobox", name="Good for").select_option("90")
    page.get_by_role("button", name="Make it").click()
    made = page.get_by_role("region", name="The new key")
    first = made.locator("code").inner_text()
    assert first.startswith("cairn_")
    row = page.get_by_role("row").filter(has_text=name)
    expect(row).to_contain_text("chat")
    page.get_by_role("button", name=f"Rotate {name}").click()
    page.get_by_role("button", name="Make a new secret").click()
    expect(made.locator("code")).not_to_have_text(first)
    second = made.locator("code").inner_text()
    for secret in (first, second):
        headers = {"authorization": f"Bearer {secret}"}
        answer = page.request.get("/api/session", headers=headers)
        assert (answer.status, "leave out account" in answer.text()) == (403, True)  # known, and narrow
    page.get_by_role("button", name=f"Revoke {name}").click()
    revoke = page.get_by_role("button", name="Revoke it")
    expect(revoke).to_be_disabled()
    page.get_by_label(re.compile("to go on")).fill(name)
    revoke.click()
    expect(row).to_contain_text("revoked")
    assert page.request.get("/api/session", headers={"authorization": f"Bearer {second}"}).status == 401


def test_a_group_is_made_joined_and_removed(page: Page) -> None:
    user, group = add_ada(page), f"geology-{time.time_ns()}"
    page.get_by_role("button", name="New group").click()
    page.get_by_label("Name", exact=True).fill(group)
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("button", name=f"Remove {group}")).to_be_visible()
    page.get_by_role("row").filter(has_text=user).get_by_role("button").click()
    page.get_by_role("checkbox", name=group).check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("row").filter(has_text=user)).to_contain_text(group)
    page.get_by_role("button", name=f"Remove {group}").click()
    page.get_by_label(re.compile("to go on")).fill(group)
    page.get_by_role("button", name="Remove it").click()
    expect(page.get_by_role("button", name=f"Remove {group}")).to_have_count(0)


def test_a_stranger_can_read_the_door(axe: str, browser: Browser, up: Up) -> None:
    for scheme, viewport in (("light", WIDE), ("dark", PHONE)):
        context = browser.new_context(base_url=up.url, viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
        stranger = context.new_page()
        stranger.goto("/welcome")
        expect(stranger.locator("#password")).to_be_visible()
        assert violations(stranger, axe) == []
        assert overflow(stranger) == []
        context.close()
