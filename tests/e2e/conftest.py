"""A real `cairn up` over a seeded home, the built page, and Debian's Chromium to look at it with."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, StorageState, expect

from tests.e2e.chromium import ROOT, launched
from tests.e2e.serving import Up, serving

PAGE = ROOT / "src" / "cairn" / "server" / "page" / "index.html"
WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
OWN_PAGE = {"sec-fetch-site": "same-origin"}
"""What a browser says of the page's own requests; those that a test makes beside the page say nothing."""
NewPage = Callable[..., Page]


@pytest.fixture(scope="session")
def built_page() -> Path:
    """The page, built when it is missing or older than its sources."""
    subprocess.run(
        ["make", "--quiet", "web/node_modules/.stamp", PAGE.relative_to(ROOT)], cwd=ROOT, check=True
    )
    return PAGE


@pytest.fixture(scope="session")
def axe(built_page: Path) -> str:
    """The source of axe-core, the accessibility checker."""
    return (ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def up(built_page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`cairn up` on a free port over a seeded home."""
    with serving(tmp_path_factory.mktemp("home")) as up:
        yield up


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium. Patient, because other tests may keep the machine busy."""
    expect.set_options(timeout=20_000)
    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def signed_in(up: Up, browser: Browser) -> StorageState:
    """Cookies of a browser that opened the one-time link."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(up.link)
    # The first visit of all: nothing is cached anywhere yet.
    expect(page.get_by_role("textbox", name="Message")).to_be_visible(timeout=60_000)
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def new_page(up: Up, browser: Browser, signed_in: StorageState) -> Iterator[NewPage]:
    """Open signed-in pages: `new_page()`, `new_page(viewport=PHONE)`. A script error fails the test."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def open_page(**options: Any) -> Page:
        given = {"base_url": up.url, "viewport": WIDE, "storage_state": signed_in, "reduced_motion": "reduce"}
        context = browser.new_context(**given | options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console", lambda message: problems.append(message.text) if _is_policy(message.text) else None
        )
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def page(new_page: NewPage) -> Page:
    """A signed-in page, wide."""
    return new_page()


def violations(page: Page, axe: str) -> list[str]:
    """What axe finds serious or critical on the page as it is now."""
    page.evaluate(axe)
    found = page.evaluate(
        "tags => axe.run(document, { resultTypes: ['violations'], runOnly: tags })",
        ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"],
    )
    return [
        f"{rule['id']}: {json.dumps([node['html'][:200] for node in rule['nodes'][:3]])}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
    ]


def overflow(page: Page) -> list[str]:
    """What is wider than the page: the document, or the box that scrolls in its place on a phone."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll('html, main, .thread-scroll, .side-panel-body')]
            .filter((box) => box.scrollWidth > box.clientWidth)
            .map((box) => `${box.tagName}.${box.className}: ${box.scrollWidth} > ${box.clientWidth}`)"""
    )
    return found


def _is_policy(text: str) -> bool:
    return "Content Security Policy" in text
