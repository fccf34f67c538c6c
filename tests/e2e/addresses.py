"""Every page there is, from the router of the page itself: who adds one need not list it anywhere."""

import re
from urllib.parse import urlsplit

from playwright.sync_api import Page, expect

from tests.e2e.conftest import OWN_PAGE

_ROUTES = "Object.keys(self.__TSR_ROUTER__.routesByPath)"
_LINKS = "[...document.querySelectorAll('a[href^=\"/\"]')].map((link) => link.getAttribute('href'))"
_WITHOUT_PAGE = {"/"}
"""It leads on to the chat."""


_SHARED = "/shared/$token"


def settle(page: Page) -> None:
    """Wait until what is asked for is there."""
    expect(page.locator(":is(h1, h2, .problem, .composer):visible").first).to_be_visible()
    expect(page.locator(".skeleton")).to_have_count(0)
    expect(page.get_by_role("status").filter(has_text="Loading")).to_have_count(0)


def all_addresses(page: Page) -> dict[str, str]:
    """Of each route an address."""
    found, missing = found_addresses(page)
    assert not missing, f"no page links to {', '.join(missing)}: seed something that leads there"
    return found


def found_addresses(page: Page) -> tuple[dict[str, str], list[str]]:
    """Of each route its own address, or with parameters the first that is linked to; and routes without."""
    page.goto("/chat")
    settle(page)
    routes = {route.rstrip("/") or "/" for route in page.evaluate(_ROUTES)} - _WITHOUT_PAGE
    found = {route: route for route in sorted(routes) if "$" not in route}
    if _SHARED in routes:
        found |= _shared(page)
    to_look_at = list(found.values())
    while to_look_at:
        page.goto(to_look_at.pop(0))
        settle(page)
        for link in page.evaluate(_LINKS):
            path = urlsplit(link).path
            for route in routes - set(found):
                if re.fullmatch(re.sub(r"\$\w+", "[^/]+", route), path) and path not in found:
                    found[route] = link
                    to_look_at.append(link)
    return dict(sorted(found.items())), sorted(routes - set(found))


def _shared(page: Page) -> dict[str, str]:
    """A link to the first conversation that has one. No page leads there: its secret is told once."""
    for conversation in page.request.get("/api/conversations").json():
        path = f"/api/conversations/{conversation['id']}/shares"
        made = page.request.post(path, data={}, headers=OWN_PAGE)
        if made.ok:
            return {_SHARED: f"/shared/{made.json()['token']}"}
    return {}
