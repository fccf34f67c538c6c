"""`python -m tests.e2e.screenshot LINK [FOLDER]`: the pictures of README and docs, from a running `cairn up`.

LINK is the one-time sign-in link that it prints. The chat is asked its first suggestion.
"""

import sys
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, expect

from tests.e2e.chromium import ROOT, launched

_PATIENCE_MS = 120_000


def take(browser: Browser, link: str, folder: Path) -> None:
    """Write chat.png (light), model.png (dark) and run.png (light)."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(_PATIENCE_MS)
    page.goto(link)
    page.get_by_role("button", name="Tell me a story").click()
    expect(page.get_by_role("button", name="Receipt")).to_be_visible(timeout=_PATIENCE_MS)
    page.mouse.move(0, 0)
    page.screenshot(path=folder / "chat.png")
    origin = urlsplit(link)._replace(path="", query="").geturl()
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
    context.close()


def main() -> None:
    """Take the pictures into the folder given, or `docs/images`."""
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with launched() as browser:
        take(browser, sys.argv[1], folder)


if __name__ == "__main__":
    main()
