"""Order in the chat, in a real browser: folders, search, files, shared links and saved prompts."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.conftest import OWN_PAGE, PHONE, NewPage, overflow, violations
from tests.e2e.serving import Up

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def name(of: str) -> str:
    """A name that no other test uses."""
    return f"{of} {time.time_ns() % 10**9}"


def begun(page: Page, title: str, *said: str) -> tuple[str, list[str]]:
    """A conversation that is there already, question and answer by turns."""
    made = page.request.post("/api/conversations", data={"title": title}, headers=OWN_PAGE).json()["id"]
    ids: list[str] = []
    for at, content in enumerate(said):
        turn: dict[str, Any] = {"role": "assistant" if at % 2 else "user", "content": content}
        turn["parent_id"] = ids[-1] if ids else None
        stored = page.request.post(f"/api/conversations/{made}/messages", data=turn, headers=OWN_PAGE)
        ids.append(stored.json()["id"])
    return made, ids


def menu(page: Page, title: str) -> None:
    """The menu of a conversation, open."""
    page.get_by_role("link", name=title, exact=True).hover()
    page.get_by_role("button", name=f"More for “{title}”").click()


def folder(page: Page, called: str) -> Locator:
    return page.get_by_role("region", name="Folders").get_by_role("button", name=re.compile(f"^{called}"))


def test_folders_are_made_filled_renamed_and_deleted_without_what_lies_in_them(page: Page) -> None:
    title, other, boats = name("Gulls"), name("Terns"), name("Boats")
    begun(page, title, "x")
    begun(page, other, "x")
    begun(page, name("Loose"), "x")
    page.goto("/chat")
    menu(page, title)
    page.get_by_role("menuitem", name="Move to").click()
    page.get_by_role("menuitem", name="New folder…").click()
    page.get_by_label("Name").fill(boats)
    page.keyboard.press("Enter")
    inside = page.get_by_role("list", name=f"In {boats}")
    expect(inside.get_by_role("link", name=title)).to_be_visible()
    # By drag: in, and out again.
    page.get_by_role("link", name=other, exact=True).drag_to(folder(page, boats))
    expect(inside.get_by_role("link", name=other)).to_be_visible()
    inside.get_by_role("link", name=other).drag_to(page.get_by_role("heading", name="Today"))
    expect(inside.get_by_role("link", name=other)).to_have_count(0)
    page.reload()
    expect(inside.get_by_role("link", name=title)).to_be_visible()
    # Renamed, shut, and deleted: what lay in it stays, and comes back into it.
    ships = name("Ships")
    folder(page, boats).hover()
    page.get_by_role("button", name=f"More for the folder “{boats}”").click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_label("Name of the folder").fill(ships)
    page.keyboard.press("Enter")
    folder(page, ships).click()
    expect(page.get_by_role("link", name=title, exact=True)).to_have_count(0)
    folder(page, ships).hover()
    page.get_by_role("button", name=f"More for the folder “{ships}”").click()
    page.get_by_role("menuitem", name="Delete the folder alone").click()
    expect(folder(page, ships)).to_have_count(0)
    expect(page.get_by_role("link", name=title, exact=True)).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    folder(page, ships).click()
    expect(page.get_by_role("list", name=f"In {ships}").get_by_role("link", name=title)).to_be_visible()


def test_a_conversation_is_moved_by_keyboard(page: Page) -> None:
    title, boats = name("Gulls"), name("Boats")
    begun(page, title, "x")
    page.request.post("/api/folders", data={"name": boats}, headers=OWN_PAGE)
    page.goto("/chat")
    page.get_by_role("button", name=f"More for “{title}”").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Rename")).to_be_focused()
    page.keyboard.press("ArrowDown")
    # The menu moves the focus a moment after the key.
    expect(page.get_by_role("menuitem", name="Move to")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("menuitemradio", name="No folder")).to_be_focused()
    page.keyboard.type(boats[:12], delay=10)
    expect(page.get_by_role("menuitemradio", name=boats)).to_be_focused()
    page.keyboard.press("Enter")
    folder(page, boats).click()
    expect(page.get_by_role("list", name=f"In {boats}").get_by_role("link", name=title)).to_be_visible()


def test_a_search_shows_the_passage_and_opens_at_the_message(page: Page) -> None:
    word = f"zeppelin{time.time_ns() % 10**9}"
    long = "\n\n".join(f"Paragraph {number} of many." for number in range(60))
    said = [f"first {word} question", long, "and then?", long, "last question", long]
    title = name("Airships")
    conversation, ids = begun(page, title, *said)
    page.goto("/chat")
    page.get_by_label("Search conversations").fill(word[:-2])
    found = page.get_by_role("region", name="In messages")
    hit = found.get_by_role("link", name=re.compile(title))
    expect(hit.locator("mark")).to_have_text(word)
    expect(hit).to_contain_text("first")
    hit.click()
    expect(page).to_have_url(re.compile(f"/chat/{conversation}$"))
    asked = page.get_by_role("article", name="You").first
    expect(asked).to_be_focused()
    expect(asked).to_be_in_viewport()
    # A version that is not on show is brought to it.
    turn = {"role": "user", "content": "another first question"}
    page.request.post(f"/api/conversations/{conversation}/messages", data=turn, headers=OWN_PAGE)
    page.goto(f"/chat/{conversation}")
    expect(asked).to_contain_text("another first question")
    page.goto(f"/chat/{conversation}?message={ids[3]}")
    expect(page.locator(f"#{ids[3]}")).to_be_focused()
    expect(asked).to_contain_text(word)
    page.get_by_label("Search conversations").fill("nobodysaidthis")
    expect(found).to_contain_text("No message has these words")


def test_what_is_exported_can_be_read_and_imported(page: Page, tmp_path: Path) -> None:
    title = name("Exported")
    begun(page, title, "which?", "the **terns**")
    page.goto("/chat")
    menu(page, title)
    with page.expect_download() as started:
        page.get_by_role("menuitem", name="Export as Markdown").click()
    assert started.value.suggested_filename == f"{title}.md"
    text = Path(started.value.path()).read_text()
    assert "## You\n\nwhich?\n\n## Reply\n\nthe **terns**" in text
    page.goto("/settings")
    with page.expect_download() as started:
        page.get_by_role("button", name="Export all as JSON").click()
    whole = json.loads(Path(started.value.path()).read_text())
    kept = [each for each in whole["conversations"] if each["title"] == title]
    assert len(kept) == 1
    again = name("Imported")
    file = tmp_path / "conversations.json"
    file.write_text(json.dumps(whole | {"conversations": [kept[0] | {"title": again}]}))
    page.get_by_label("File of conversations").set_input_files(file)
    expect(page.get_by_text("1 conversation came in").first).to_be_visible()
    file.write_text('{"format": "something"}')
    page.get_by_label("File of conversations").set_input_files(file)
    expect(page.get_by_role("alert")).to_contain_text("is no export of conversations")
    page.goto("/chat")
    page.get_by_role("link", name=again, exact=True).click()
    expect(page.get_by_role("article", name="Reply").locator("strong")).to_have_text("terns")


def test_a_shared_link_is_read_and_ended(up: Up, page: Page, browser: Browser, axe: str) -> None:
    title = name("Shared")
    conversation, ids = begun(page, title, "which?", "the **terns**")
    page.goto("/chat")
    menu(page, title)
    page.get_by_role("menuitem", name="Share…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("radio")).to_have_count(0)  # the operator has not allowed it for anyone
    dialog.get_by_role("button", name="Make a link").click()
    address = dialog.get_by_role("region", name="The new link").locator("code").inner_text()
    assert address.startswith(f"{up.url}/shared/")
    assert violations(page, axe) == []
    later = {"role": "user", "content": "a later secret", "parent_id": ids[-1]}
    page.request.post(f"/api/conversations/{conversation}/messages", data=later, headers=OWN_PAGE)

    reader = page.context.new_page()
    reader.goto(address)
    expect(reader.get_by_role("heading", name=title)).to_be_visible()
    expect(reader.get_by_role("article", name="Reply").locator("strong")).to_have_text("terns")
    expect(reader.get_by_text("a later secret")).to_have_count(0)
    expect(reader.get_by_role("textbox")).to_have_count(0)
    assert violations(reader, axe) == []
    stranger = browser.new_context(base_url=up.url).new_page()
    stranger.goto(address)
    expect(stranger.get_by_role("heading", name="Nothing to read here")).to_be_visible()
    stranger.get_by_role("link", name="Sign in").click()
    expect(stranger).to_have_url(re.compile(r"/welcome\?next=.*shared"))
    stranger.context.close()

    page.goto("/settings")
    page.get_by_role("button", name=re.compile(f"End the link to “{title}”")).click()
    expect(page.get_by_text(title)).to_have_count(0)
    reader.reload()
    expect(reader.get_by_role("alert")).to_contain_text("leads nowhere")


def test_prompts_are_saved_and_written_by_a_slash(page: Page, axe: str) -> None:
    sum_up, plain = name("Sum up"), name("Plain words")
    page.goto("/prompts")
    for called, content in ((sum_up, "Sum up {{ text }} in {{lines}} lines."), (plain, "In plain words:")):
        page.get_by_role("button", name="New prompt").click()
        page.get_by_label("Name", exact=True).fill(called)
        page.get_by_label("Text", exact=True).fill(content)
        page.get_by_role("button", name="Save it").click()
        expect(page.get_by_role("row", name=re.compile(called))).to_be_visible()
    assert violations(page, axe) == []

    page.goto("/chat")
    box = page.get_by_role("textbox", name="Message")
    box.press_sequentially("Please: /plainw")
    options = page.get_by_role("listbox", name="Prompts").get_by_role("option")
    expect(options.first).to_have_attribute("aria-selected", "true")
    assert violations(page, axe) == []
    box.press("Escape")
    expect(options).to_have_count(0)
    box.press("Backspace")
    box.fill("")
    box.press_sequentially(f"Please: /{plain.replace(' ', '').lower()}")
    box.press("Enter")
    expect(box).to_have_value("Please: In plain words:")
    expect(box).to_be_focused()
    # Its variables are asked for; the keyboard is back in the box afterwards.
    box.fill("")
    box.press_sequentially(f"/{sum_up.replace(' ', '').lower()}")
    box.press("Tab")
    form = page.get_by_role("dialog", name=sum_up)
    expect(form.get_by_label("text")).to_be_focused()
    page.keyboard.type("the tale")
    form.get_by_label("lines").fill("3")
    page.keyboard.press("Enter")
    expect(box).to_have_value("Sum up the tale in 3 lines.")
    expect(box).to_be_focused()
    # A slash that is none, and the same from the menu.
    box.fill("")
    box.press_sequentially("/usr/bin")
    expect(options).to_have_count(0)
    box.fill("Now ")
    page.get_by_role("button", name="Prompts", exact=True).click()
    page.get_by_role("menuitem", name=plain).click()
    expect(box).to_have_value("Now In plain words:")

    page.goto("/prompts")
    page.get_by_role("button", name=f"Change {plain}").click()
    page.get_by_label("Offer it to everyone on this server").check()
    page.get_by_role("button", name="Save it").click()
    expect(page.get_by_role("row", name=re.compile(plain))).to_contain_text("for everyone")
    page.get_by_role("button", name=f"Delete {plain}").click()
    expect(page.get_by_role("row", name=re.compile(plain))).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("row", name=re.compile(plain))).to_be_visible()


def test_it_fits_a_phone(new_page: NewPage, axe: str) -> None:
    page = new_page(viewport=PHONE, has_touch=True, is_mobile=True, color_scheme="dark")
    title, boats = name("Gulls with a title that is longer than a phone is wide"), name("Boats")
    conversation, _ = begun(page, title, "which gull?", "the one on the mast")
    data = {"name": boats, "conversation_ids": [conversation]}
    page.request.post("/api/folders", data=data, headers=OWN_PAGE)
    page.goto("/chat")
    page.get_by_role("button", name="Conversations").click()
    folder(page, boats).click()
    assert violations(page, axe) == []
    page.get_by_role("button", name=f"More for “{title}”").click()
    page.get_by_role("menuitem", name="Move to").click()
    expect(page.get_by_role("menuitemradio", name=boats)).to_be_in_viewport(ratio=1)
    page.keyboard.press("Escape")
    page.get_by_role("button", name=f"More for “{title}”").click()
    page.get_by_role("menuitem", name="Share…").click()
    page.get_by_role("button", name="Make a link").click()
    expect(page.get_by_role("button", name=re.compile("^End the link"))).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("button", name="Copy the link")).to_be_in_viewport(ratio=1)
    assert violations(page, axe) == []
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("searchbox", name="Search conversations").fill("mast")
    hit = page.get_by_role("region", name="In messages").get_by_role("link", name=re.compile("mast")).first
    expect(hit).to_be_in_viewport(ratio=1)
    assert violations(page, axe) == []
    hit.click()
    expect(page.get_by_role("article", name="Reply")).to_be_focused()
    assert overflow(page) == []
    for path in ("/prompts", "/settings"):
        page.goto(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert overflow(page) == []
