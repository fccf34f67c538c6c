"""The Traces room: requests, filtered, and where the time of one went."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import OWN_PAGE, PHONE, NewPage, overflow, violations

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def ask(page: Page) -> None:
    page.goto("/chat")
    page.get_by_role("textbox", name="Message").fill("Where does the path lead?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Receipt").first).to_be_visible()


def test_an_answer_leads_to_its_trace_and_back(page: Page, axe: str) -> None:
    ask(page)
    page.get_by_role("button", name="Receipt").first.click()
    page.get_by_role("complementary", name="Receipt").locator("a[href^='/traces/']").click()
    expect(page.get_by_role("heading", name="POST /v1/chat/completions")).to_be_visible()
    decode = page.get_by_role("button", name="decode")
    expect(decode).to_have_attribute("aria-expanded", "false")
    decode.focus()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("button", name="prefill")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_text("gen_ai.usage.output_tokens")).to_be_visible()
    assert violations(page, axe) == []
    page.get_by_role("button", name=re.compile("^rcpt_")).click()
    expect(page.get_by_text(re.compile("^cairn replay rcpt_"))).to_be_visible()
    page.get_by_role("link", name="Open it").click()
    expect(page).to_have_url(re.compile("/chat/"))


def test_requests_are_listed_and_filtered(page: Page, axe: str) -> None:
    ask(page)
    body = {"model": "nobody", "messages": [{"role": "user", "content": "x"}]}
    page.request.post("/v1/chat/completions", data=body, headers=OWN_PAGE)
    page.goto("/traces")
    rows = page.locator("tbody tr")
    expect(rows.filter(has_text="refused").first).to_be_visible()
    assert violations(page, axe) == []
    page.get_by_label("Outcome").select_option("refused")
    expect(page).to_have_url(re.compile("outcome=refused"))
    expect(rows.filter(has_text="answered")).to_have_count(0)
    page.get_by_label("Outcome").select_option("")
    page.get_by_label("Model").select_option("lighthouse")
    expect(rows.filter(has_text="nobody")).to_have_count(0)
    page.get_by_label("Slower than").select_option("60")
    expect(page.get_by_text("Nothing matches the filter.")).to_be_visible()
    page.goto("/traces?span=hour&user=admin")
    rows.first.get_by_role("link").click()
    expect(page.get_by_role("heading", name="Where the time went")).to_be_visible()


def test_it_fits_a_phone(new_page: NewPage) -> None:
    page = new_page(viewport=PHONE)
    ask(page)
    page.goto("/traces")
    expect(page.locator("tbody tr").first).to_be_visible()
    assert overflow(page) == []
    page.locator("tbody a").first.click()
    expect(page.get_by_role("heading", name="Where the time went")).to_be_visible()
    page.locator(".waterfall-row").first.click()
    assert overflow(page) == []
