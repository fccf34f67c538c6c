"""The chat in a real browser: stream, stop, ask again, edit, judge, trace, and the same by keyboard."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Locator, Page, expect

from cairn.registry import Registry
from tests.e2e.conftest import OWN_PAGE
from tests.e2e.serving import Up

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

SEED = "11"


@contextmanager
def sampling(page: Page) -> Iterator[Locator]:
    """The sampling panel, open."""
    page.get_by_role("button", name=re.compile("^Sampling")).click()
    panel = page.get_by_role("complementary", name="Sampling")
    yield panel
    panel.get_by_role("button", name="Close sampling").click()


def ask(page: Page, text: str) -> None:
    box = page.get_by_role("textbox", name="Message")
    box.fill(text)
    box.press("Enter")


def replies(page: Page) -> Locator:
    return page.get_by_role("article", name="Reply")


def done(page: Page) -> None:
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_a_reply_streams_and_is_there_after_a_reload(page: Page) -> None:
    page.goto("/chat")
    with sampling(page) as panel:
        panel.get_by_label("Seed").fill(SEED)
    ask(page, "Tell me a tale.")
    expect(page).to_have_url(re.compile("/chat/conv_"))
    done(page)
    expect(replies(page)).to_contain_text(".")
    expect(replies(page)).to_contain_text(re.compile(r"\d+ tokens"))
    text = replies(page).locator(".markdown").inner_text()
    expect(page.get_by_role("log", name="Reply")).to_contain_text("The reply is complete.")
    page.reload()
    expect(replies(page).locator(".markdown")).to_have_text(text)
    expect(page).to_have_title(re.compile("Tell me a tale"))


def test_stop_keeps_what_had_arrived_and_its_receipt(page: Page, up: Up) -> None:
    page.goto("/chat")
    with sampling(page) as panel:
        panel.get_by_label("Temperature").fill("0")
    ask(page, "Go on for ever.")
    expect(replies(page)).to_contain_text("the fox went to the fox went to")
    page.keyboard.press("Escape")
    done(page)
    expect(replies(page)).to_contain_text("stopped")
    page.reload()
    expect(replies(page)).to_contain_text("the fox went to the fox went to")
    replies(page).get_by_role("button", name="Receipt").click()
    receipt = page.get_by_role("complementary", name="Receipt")
    expect(receipt).to_contain_text("abort")
    # The server has let go of the request: nothing is generated for nobody.
    expect(receipt.get_by_role("link", name=up.seeded.model.digest[7:19])).to_be_visible()


def test_regenerate_edit_and_walk_between_versions(page: Page) -> None:
    page.goto("/chat")
    ask(page, "First question")
    done(page)
    replies(page).get_by_role("button", name="Regenerate").click()
    done(page)
    expect(replies(page).get_by_role("group", name="Versions")).to_contain_text("2/2")
    replies(page).get_by_role("button", name="Earlier version").click()
    expect(replies(page).get_by_role("group", name="Versions")).to_contain_text("1/2")

    question = page.get_by_role("article", name="You")
    page.get_by_role("textbox", name="Message").press("ArrowUp")
    page.get_by_role("textbox", name="Edit your message").fill("Second question")
    page.keyboard.press("Enter")
    done(page)
    expect(question).to_contain_text("Second question")
    expect(question.get_by_role("group", name="Versions")).to_contain_text("2/2")
    expect(replies(page).get_by_role("group", name="Versions")).to_have_count(0)
    question.get_by_role("button", name="Earlier version").click()
    expect(question).to_contain_text("First question")
    page.reload()
    expect(question).to_contain_text("First question")


def test_thumbs_are_stored_with_the_receipt(page: Page, up: Up) -> None:
    page.goto("/chat")
    ask(page, "Judge this")
    done(page)
    page.get_by_role("button", name="Bad reply").click()
    page.get_by_label("What was wrong with it?").fill("It goes in circles")
    with page.expect_response("**/api/feedback"):
        page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Bad reply")).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(page.get_by_role("button", name="Bad reply")).to_have_attribute("title", re.compile("in circles"))

    conversation = page.request.get(f"/api/conversations/{page.url.rsplit('/', 1)[1]}").json()
    reply = conversation["messages"][-1]
    assert reply["feedback"] == {"rating": -1, "comment": "It goes in circles"}
    with Registry.open(up.settings) as registry, registry.database.engine.connect() as connection:
        assert registry.receipt(reply["receipt_id"]).artifact == up.seeded.model.digest
        rows = connection.exec_driver_sql("SELECT message_id, receipt_id, rating FROM feedback").all()
    assert (reply["id"], reply["receipt_id"], -1) in [tuple(row) for row in rows]

    page.get_by_role("button", name="Bad reply").click()
    expect(page.get_by_role("button", name="Bad reply")).to_have_attribute("aria-pressed", "false")


def test_a_receipt_names_what_made_the_reply(page: Page, up: Up) -> None:
    page.goto("/chat")
    ask(page, "Who said that?")
    done(page)
    replies(page).get_by_role("button", name="Receipt").click()
    receipt = page.get_by_role("complementary", name="Receipt")
    expect(receipt).to_contain_text(re.compile("cairn replay rcpt_"))
    receipt.get_by_role("link", name=up.seeded.model.digest[7:19]).click()
    expect(page).to_have_url(re.compile(r"/models/sha256"))
    expect(page.get_by_role("heading", name="lighthouse", exact=True)).to_be_visible()


def test_conversations_are_renamed_filtered_deleted_and_brought_back(page: Page) -> None:
    page.goto("/chat")
    ask(page, "A title to change")
    done(page)
    page.get_by_role("link", name="A title to change").hover()
    page.get_by_role("button", name="More for “A title to change”").click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_label("Title of the conversation").fill("Kept in mind")
    page.keyboard.press("Enter")
    entry = page.get_by_role("link", name="Kept in mind")
    expect(entry).to_be_visible()
    page.get_by_label("Search conversations").fill("no such title")
    expect(entry).to_be_hidden()
    page.get_by_label("Search conversations").fill("mind")
    entry.hover()
    page.get_by_role("button", name="More for “Kept in mind”").click()
    page.get_by_role("menuitem", name="Delete").click()
    expect(entry).to_be_hidden()
    expect(page).to_have_url(re.compile("/chat$"))
    page.get_by_role("button", name="Undo").click()
    expect(entry).to_be_visible()


def test_a_failed_request_says_why_and_can_be_tried_again(page: Page) -> None:
    body = '{"error": {"message": "the queue is full", "type": "rate_limit_error", "code": "overloaded"}}'
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(
            status=429, body=body, content_type="application/json", headers={"retry-after": "3"}
        ),
        times=1,
    )
    page.goto("/chat")
    ask(page, "Is anybody there?")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The queue is full")
    expect(alert).to_contain_text("Try again in 3 s")
    alert.get_by_role("button", name="Try again").click()
    done(page)
    expect(replies(page).get_by_role("button", name="Copy the reply")).to_be_visible()
    expect(alert).to_have_count(0)


def test_markdown_and_code_are_shown_and_copied(page: Page) -> None:
    text = (
        "A *list*:\n\n- one\n- two\n\n```python\ndef f(x: int) -> int:\n    return x\n```\n\n<b>not html</b>"
    )
    created = page.request.post("/api/conversations", data={"title": "Code"}, headers=OWN_PAGE).json()
    path = f"/api/conversations/{created['id']}/messages"
    asked = page.request.post(path, data={"role": "user", "content": "Code, please"}, headers=OWN_PAGE).json()
    answer = {"role": "assistant", "content": text, "parent_id": asked["id"]}
    page.request.post(path, data=answer, headers=OWN_PAGE)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"/chat/{created['id']}")
    reply = replies(page)
    expect(reply.get_by_role("listitem")).to_have_count(2)
    expect(reply.locator(".hljs-keyword").first).to_have_text("def")
    expect(reply).to_contain_text("<b>not html</b>")
    reply.get_by_role("button", name="Copy the code").click()
    expect(reply.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "def f(x: int) -> int:\n    return x"


def test_scrolling_up_lets_go_of_the_end(page: Page) -> None:
    page.goto("/chat")
    with sampling(page) as panel:
        panel.get_by_label("Temperature").fill("0")
    ask(page, "Fill the page")
    scroller = page.locator(".thread-scroll")
    page.wait_for_function(
        "() => { const b = document.querySelector('.thread-scroll'); return b.scrollTop > 200 }"
    )
    scroller.hover()
    page.mouse.wheel(0, -1_000_000)
    expect(page.get_by_role("button", name="Latest")).to_be_visible()
    # A turn of the wheel is a movement of some frames.
    page.wait_for_function("() => document.querySelector('.thread-scroll').scrollTop < 50")
    page.get_by_role("button", name="Latest").click()
    expect(page.get_by_role("button", name="Latest")).to_be_hidden()
    page.get_by_role("button", name="Stop").click()
    done(page)


def test_the_whole_way_by_keyboard(page: Page) -> None:
    page.goto("/settings")
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox")).to_be_focused()
    page.keyboard.type("new chat")
    page.keyboard.press("Enter")
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    page.keyboard.type("By keyboard")
    page.keyboard.press("Enter")
    thumb = replies(page).get_by_role("button", name="Good reply")
    expect(thumb).to_be_visible()  # "Send" is there before the reply begins, too
    for _ in range(8):
        page.keyboard.press("Shift+Tab")
        if thumb.evaluate("button => button === document.activeElement"):
            break
    expect(thumb).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("What was good about it?")).to_be_focused()
    page.keyboard.press("Escape")
    expect(thumb).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Control+k")
    page.keyboard.type("lighthouse-base")
    expect(page.get_by_role("option", name="lighthouse-base")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="lighthouse-base")).to_be_visible()
