"""The page of routes: what is in force, a canary's share, and a file with mistakes."""

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import PHONE, WIDE, NewPage, overflow, violations
from tests.e2e.serving import Up

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

TEXT = """\
[routes.way]
targets = [{ model = "lighthouse" }]

[routes.way.canary]
percent = 5  # of users
target = { model = "tower" }
"""


def write(page: Page, text: str) -> None:
    page.get_by_label("Text of routes.toml").fill(text)
    page.get_by_role("button", name="Put in force").click()


def test_a_file_is_put_in_force_and_a_share_is_moved(up: Up, page: Page) -> None:
    path = up.settings.home / "routes.toml"
    page.goto("/routes")
    write(page, TEXT.replace("percent = 5", "percent = 500").replace("targets", "targts"))
    problems = page.get_by_role("alert")
    expect(problems.get_by_role("button", name="Line 2")).to_be_visible()
    expect(problems).to_contain_text("did you mean 'targets'?")
    problems.get_by_role("button", name="Line 5").click()
    assert page.evaluate("getSelection().toString()") == "percent = 500  # of users"
    assert not path.exists()
    write(page, TEXT)
    section = page.get_by_role("region", name="way")
    expect(section.get_by_role("row", name="local/tower canary")).to_contain_text("well")
    slider = section.get_by_role("slider", name="Canary")
    slider.focus()
    slider.press("ArrowRight")
    expect(section.get_by_text("6 % of users")).to_be_visible()
    expect(page.get_by_text("6 % of users get the canary of way").first).to_be_visible()
    assert path.read_text() == TEXT.replace("percent = 5", "percent = 6")
    path.unlink()
    expect(page.get_by_text("There is no route yet", exact=False)).to_be_visible()


@pytest.mark.parametrize("viewport", [WIDE, PHONE])
def test_it_fits_and_can_be_read_by_all(
    up: Up, new_page: NewPage, axe: str, viewport: dict[str, int]
) -> None:
    path = up.settings.home / "routes.toml"
    path.write_text(TEXT)
    for scheme in ("light", "dark"):
        page = new_page(viewport=viewport, color_scheme=scheme)
        page.goto("/routes")
        expect(page.get_by_role("slider", name="Canary")).to_be_visible()
        assert violations(page, axe) == []
        assert overflow(page) == []
    path.unlink()
