"""The Usage room: use over time, what it is split and filtered by, and limits that administrators set."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import PHONE, NewPage, overflow, violations

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def use_something(page: Page) -> None:
    """Ask the model once."""
    page.goto("/chat")
    page.get_by_role("textbox", name="Message").fill("Where does the path lead?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Receipt").first).to_be_visible()


def test_what_was_used_is_shown_split_and_filtered(page: Page, axe: str) -> None:
    use_something(page)
    page.goto("/usage")
    expect(page.locator(".usage-chart canvas")).to_be_visible()
    expect(page.get_by_role("radio", name=re.compile("Requests"))).to_be_checked()
    page.get_by_role("button", name="lighthouse", exact=True).click()
    expect(page).to_have_url(re.compile("model=lighthouse"))
    page.get_by_label("Split by").select_option("user")
    expect(page.get_by_role("button", name="admin", exact=True)).to_be_visible()
    page.get_by_text("Tokens", exact=True).click()
    expect(page).to_have_url(re.compile("show=tokens"))
    assert violations(page, axe) == []
    page.goto("/usage?model=nothing")
    expect(page.get_by_text("Nothing matches the filter.")).to_be_visible()
    page.get_by_role("button", name="Any model").click()
    expect(page.locator(".usage-chart canvas")).to_be_visible()


def test_a_limit_is_set_changed_and_removed(page: Page, axe: str) -> None:
    page.goto("/usage")
    page.get_by_role("button", name="Set a limit").click()
    page.get_by_label("Name, * for each").fill("ada")
    page.get_by_label("What is counted").select_option("money")
    page.get_by_label("Amount in USD").fill("12.50")
    assert violations(page, axe) == []
    page.get_by_role("button", name="Set", exact=True).click()
    row = page.get_by_role("listitem").filter(has_text="US$12.50 per month")
    expect(row).to_contain_text("US$12.50 of US$12.50 left")
    row.get_by_role("button", name="Change").click()
    page.get_by_label("Amount in USD").fill("7")
    page.get_by_role("button", name="Set", exact=True).click()
    row = page.get_by_role("listitem").filter(has_text="US$7.00 per month")
    row.get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(row).to_have_count(1)
    row.get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)


def test_it_fits_a_phone(new_page: NewPage) -> None:
    page = new_page(viewport=PHONE)
    use_something(page)
    page.goto("/usage?span=day")
    expect(page.locator(".usage-chart canvas")).to_be_visible()
    assert overflow(page) == []
