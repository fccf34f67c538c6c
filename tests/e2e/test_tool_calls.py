"""Calls of tools in the thread of a chat that came from a file: folded, by keyboard, and asked on."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from cairn.registry import Registry
from tests.e2e.conftest import OWN_PAGE, PHONE, NewPage, overflow, violations
from tests.e2e.serving import Up

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

GAVE = '{"high": "05:12", "metres": 1.5}'
FOUND = {
    "number": 1,
    "score": 0.83,
    "filename": "tide-tables.pdf",
    "collection": "harbour",
    "document_id": "doc-gone",
    "chunk_id": 4,
    "page": 12,
    "heading": ["June"],
    "quote": "High water at 05:12.",
}


def call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


MESSAGES: tuple[dict[str, Any], ...] = (
    {"role": "user", "content": "When is high water at the pier, and is it windy?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            call("call_1", "get_tide", '{"place": "the pier", "day": "2026-06-21"}'),
            call("call_2", "get_wind", '{"place": "the pier"}'),
        ],
    },
    {"role": "tool", "content": GAVE, "tool_call_id": "call_1"},
    {
        "role": "assistant",
        "content": "High water is at **05:12**.",
        "search": {"query": "high water", "collections": ["harbour"], "found": [FOUND]},
    },
)


def bring_in(page: Page) -> str:
    """The conversation, by the API that the page's import uses; its id."""
    messages = [
        {"id": str(at), "parent_id": str(at - 1) if at else None, **each} for at, each in enumerate(MESSAGES)
    ]
    body = {
        "format": "cairn.conversations",
        "version": 1,
        "conversations": [{"title": "Tides", "messages": messages}],
    }
    answer = page.request.post("/api/conversations/import", data=body, headers=OWN_PAGE)
    assert answer.ok, answer.text()
    return str(answer.json()["conversation_ids"][0])


def test_calls_stand_folded_in_their_order_and_open_by_keyboard(new_page: NewPage, axe: str) -> None:
    page = new_page(viewport=PHONE, color_scheme="dark")
    page.goto(f"/chat/{bring_in(page)}")
    folds = page.locator(".tool-calls summary")
    expect(folds).to_have_count(3)
    for fold, name in zip(folds.all(), ("get_tide", "get_wind", "file_search"), strict=True):
        expect(fold).to_contain_text(name)
    gave = page.get_by_text("05:12", exact=False).locator("visible=true")
    expect(gave).to_have_count(1)  # the reply alone: what tools gave is folded away
    assert violations(page, axe) == []
    for fold in folds.all():
        fold.focus()
        expect(fold).to_be_focused()
        page.keyboard.press("Enter")
    tide, wind, search = page.locator(".tool-calls > li").all()
    expect(tide).to_contain_text('"day": "2026-06-21"')
    expect(tide).to_contain_text(GAVE)
    expect(wind).to_contain_text("Nobody has said what it gave.")
    expect(search).to_contain_text("It found 1 passage")
    expect(search).to_contain_text("tide-tables.pdf")
    expect(search).not_to_contain_text("High water at")  # its document is not open to who reads
    assert violations(page, axe) == []
    assert overflow(page) == []
    folds.first.focus()
    page.keyboard.press("Enter")
    expect(tide.get_by_text(GAVE)).not_to_be_visible()


def test_the_model_is_told_what_a_tool_gave(page: Page, up: Up) -> None:
    conversation = bring_in(page)
    page.goto(f"/chat/{conversation}")
    expect(page.get_by_role("article", name="Reply")).to_have_count(2)
    page.get_by_role("textbox", name="Message").fill("And tomorrow?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article", name="Reply")).to_have_count(3)
    expect(page.get_by_role("button", name="Receipt")).to_be_visible()
    turns = page.request.get(f"/api/conversations/{conversation}").json()["messages"]
    assert [each["role"] for each in turns] == [
        *("user", "assistant", "tool", "assistant"),
        *("user", "assistant"),
    ]
    with Registry.open(up.settings) as registry:
        asked = registry.receipt(turns[-1]["receipt_id"]).request["messages"]
    assert [each["role"] for each in asked] == ["user", "assistant", "tool", "assistant", "user"]
    assert GAVE in str(asked[2])
    assert "get_tide" in str(asked[1])
    assert "get_wind" not in str(asked[1])  # nobody answered it
