"""`python -m tests.e2e.screenshot LINK [FOLDER]`: the pictures of README and docs, from a running `cairn up`.

LINK is the one-time sign-in link that it prints. The chat is asked its first suggestion, and Cairn's own
documentation what it says about deleting. `--knowledge` takes the pictures of collections alone, for which no
build is needed.
"""

import sys
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect

from tests.e2e.chromium import ROOT, launched

_PATIENCE_MS = 120_000
_DOCS_MS = 600_000
_QUESTION = "What becomes of a document that is deleted?"


def take(page: Page, origin: str, folder: Path) -> None:
    """Write chat.png (light), model.png (dark) and run.png (light)."""
    page.goto(f"{origin}/chat")
    page.get_by_role("button", name="Tell me a story").click()
    expect(page.get_by_role("button", name="Receipt")).to_be_visible(timeout=_PATIENCE_MS)
    page.mouse.move(0, 0)
    page.screenshot(path=folder / "chat.png")
    model = page.get_by_label("Model", exact=True).input_value()
    page.emulate_media(color_scheme="dark")
    page.goto(f"{origin}/models")
    page.get_by_role("link", name=model, exact=True).click()
    expect(page.get_by_role("group", name="Lineage")).to_be_visible()
    page.screenshot(path=folder / "model.png")
    page.emulate_media(color_scheme="light")
    page.goto(f"{origin}/runs?status=succeeded")
    page.locator("table a").first.click()  # the newest is the last stage of a build
    page.get_by_role("link", name="The build").click()
    expect(page.locator(".plot canvas").first).to_be_visible()
    page.screenshot(path=folder / "run.png")


def take_knowledge(page: Page, origin: str, folder: Path) -> None:
    """Write knowledge.png (light), a search with what each stage thought, and settings.png (dark)."""
    page.emulate_media(color_scheme="light")
    page.goto(f"{origin}/knowledge")
    own = page.get_by_role("link", name="cairn-docs")
    expect(own).to_be_visible(timeout=_PATIENCE_MS)
    expect(page.get_by_role("progressbar")).to_have_count(0, timeout=_DOCS_MS)
    own.click()
    page.get_by_role("searchbox", name="Search in cairn-docs").fill(_QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator(".hit").first).to_be_visible(timeout=_PATIENCE_MS)
    page.mouse.move(0, 0)
    page.screenshot(path=folder / "knowledge.png")
    page.emulate_media(color_scheme="dark")
    page.get_by_role("button", name="More for cairn-docs").click()
    page.get_by_role("menuitem", name="Settings").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.screenshot(path=folder / "settings.png")


def _signed_in(browser: Browser, link: str) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light").new_page()
    page.set_default_timeout(_PATIENCE_MS)
    page.goto(link)
    expect(page.get_by_role("textbox", name="Message")).to_be_visible(timeout=_PATIENCE_MS)
    return page


def main() -> None:
    """Take the pictures into the folder given, or `docs/images`."""
    link, *more = [each for each in sys.argv[1:] if each != "--knowledge"]
    folder = Path(more[0]) if more else ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    origin = urlsplit(link)._replace(path="", query="").geturl()
    with launched() as browser:
        page = _signed_in(browser, link)
        if "--knowledge" not in sys.argv:
            take(page, origin, folder)
        take_knowledge(page, origin, folder)


if __name__ == "__main__":
    main()
