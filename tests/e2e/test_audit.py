"""The Audit room: what was changed, filtered, opened and taken along; and whether the log is whole."""

import json
import re
import time

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import update

from cairn.registry import Registry
from cairn.registry.tables import AuditRow
from cairn.server.identity import Identity
from tests.e2e.serving import Up

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def noted(up: Up, num: int) -> str:
    """Entries of an action that no other test has, one made by `eve`."""
    action = f"test{time.time_ns()}.write"
    with Registry.open(up.settings) as registry, registry.database.writing() as session:
        for i in range(num):
            actor = "eve" if i == 7 else "ann"
            registry.audit.append_in(session, action, actor, f"stone {i}", {"weight": i, "colour": "grey"})
    return action


def test_the_log_is_paged_filtered_and_opened(up: Up, page: Page) -> None:
    action = noted(up, 120)
    page.goto("/audit")
    rows = page.get_by_role("table").locator("tbody tr")
    page.get_by_label("Action", exact=True).select_option(action)
    expect(page.get_by_text("120 entries")).to_be_visible()
    expect(rows).to_have_count(50)
    expect(rows.first).to_contain_text("stone 119")
    page.get_by_role("button", name="Later").click()
    page.get_by_role("button", name="Later").click()
    expect(rows).to_have_count(20)
    expect(rows.last).to_contain_text("stone 0")
    expect(page).to_have_url(re.compile("page=%223%22"))
    page.reload()
    expect(rows.last).to_contain_text("stone 0")
    page.get_by_label("By whom").select_option("eve")
    expect(rows).to_have_count(1)
    page.get_by_label("By whom").select_option("")
    page.get_by_label("Filter by any text").fill("STONE 11")
    expect(rows).to_have_count(11)  # 11, and 110 to 119
    page.get_by_role("button", name=action).last.click()
    entry = page.get_by_role("dialog")
    expect(entry.locator("pre")).to_contain_text('"colour": "grey"')
    entry.get_by_role("link", name="stone 11", exact=True).click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Any subject").click()
    page.get_by_label("Action", exact=True).select_option(action)
    page.get_by_label("Time").select_option("days")
    page.get_by_label("Last day").fill("2020-01-31")
    expect(page.get_by_text("Nothing matches the filter.")).to_be_visible()
    page.get_by_label("Time").select_option("day")
    expect(rows).to_have_count(50)
    with page.expect_download() as download:
        page.get_by_role("link", name="JSONL").click()
    lines = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    assert [line["details"]["weight"] for line in lines] == list(range(120))


def test_the_chain_is_verified_and_a_change_is_named(up: Up, page: Page) -> None:
    noted(up, 3)
    with Registry.open(up.settings) as registry:
        last = registry.audit.entries()[-1]
    page.goto("/audit")
    page.get_by_role("button", name="Verify the chain").click()
    verdict = page.locator(".audit-verdict")
    expect(verdict).to_contain_text("The chain holds.")
    head = verdict.locator("code").inner_text()
    assert head == f"{last.seq}:{last.hash}"
    page.get_by_text("Compare with a head noted earlier").click()
    page.get_by_label(re.compile("^The head")).fill(f"{last.seq}:{'0' * 64}")
    page.get_by_role("button", name="Verify the chain").click()
    expect(verdict).to_contain_text("was replaced since the head was noted")
    page.get_by_label(re.compile("^The head")).fill("")

    def write(actor: str) -> None:
        with Registry.open(up.settings) as registry, registry.database.writing() as session:
            session.execute(update(AuditRow).where(AuditRow.seq == last.seq - 1).values(actor=actor))

    write("nobody")
    try:
        page.get_by_role("button", name="Verify the chain").click()
        expect(page.get_by_role("alert")).to_contain_text(f"broken at entry {last.seq - 1:,}")
        expect(page.get_by_role("alert")).to_contain_text(f"Audit entry {last.seq - 1} is changed")
        page.get_by_role("link", name="Show that day").click()
        expect(page.get_by_label("First day")).not_to_have_value("")
        expect(page.get_by_role("cell", name="nobody").first).to_be_visible()
    finally:
        write("ann")


def test_what_changed_a_key_leads_to_its_entries(page: Page) -> None:
    name = f"robot-{time.time_ns()}"
    page.goto("/keys")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("What it is for").fill(name)
    page.get_by_role("button", name="Make it").click()
    page.get_by_role("link", name=f"Who changed {name}").click()
    rows = page.get_by_role("table").locator("tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("key.create")
    expect(rows).to_contain_text(name)


def test_it_is_for_those_who_may(up: Up, browser: Browser) -> None:
    with Registry.open(up.settings) as registry:
        key = Identity(registry.database).create_key("bob", roles=("builder",))
    context = browser.new_context(base_url=up.url, extra_http_headers={"authorization": f"Bearer {key}"})
    page = context.new_page()
    page.goto("/routes")
    rail = page.get_by_role("navigation", name="Rooms")
    expect(rail.get_by_role("link", name="Routes")).to_be_visible()
    expect(rail.get_by_role("link", name="Audit")).to_have_count(0)
    expect(page.get_by_role("link", name="Who changed the routes")).to_have_count(0)
    page.goto("/audit")
    expect(page.get_by_role("alert").first).to_contain_text("may not read the audit log")
    context.close()
