"""Sign-in, models, runs, settings, in a real browser: wide and narrow, light and dark, checked by axe."""

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from cairn.providers.packaged_encoder import packaged_folder
from cairn.providers.starter import HEADS, starter_folder
from cairn.registry import Registry
from cairn.server.identity import Identity
from tests.e2e.conftest import OWN_PAGE, PHONE, NewPage, overflow, violations
from tests.e2e.seed import write_metrics
from tests.e2e.serving import Up

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def test_a_link_works_once_and_a_stranger_is_sent_to_the_door(
    up: Up, browser: Browser, signed_in: object
) -> None:
    context = browser.new_context(base_url=up.url)
    page = context.new_page()
    page.goto("/runs")
    expect(page.get_by_role("heading", name="Cairn")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/welcome\?next="))
    page.goto(up.link)
    expect(page.get_by_role("alert")).to_contain_text("used or is too old")
    page.get_by_text("Key", exact=True).click()
    page.locator("#key").fill("cairn-wrong-key")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert").last).to_contain_text("not valid")
    context.close()


def test_signing_out_ends_the_session(up: Up, browser: Browser, page: Page) -> None:
    # A session of its own: the others are shared between the tests.
    page.goto("/settings")
    expect(page.get_by_text("Signed in as admin")).to_be_visible()
    page.route("**/api/sign-out", lambda route: route.fulfill(status=204))
    page.route("**/api/session", lambda route: route.fulfill(status=401, json={"error": {"message": "who?"}}))
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page).to_have_url(re.compile("/welcome"))


def test_models_are_listed_filtered_and_shown_with_card_and_lineage(page: Page, up: Up) -> None:
    shipped = [name for name in HEADS if packaged_folder() and starter_folder(name).is_dir()]
    with Registry.open(up.settings) as registry:
        kinds = [artifact.kind for artifact in registry.artifacts()]
    listed = [kind for kind in kinds if kind not in ("document", "file")]  # those stand in their collections
    assert len(listed) >= 4 + len(shipped)
    page.goto("/models")
    rows = page.get_by_role("table").get_by_role("row")
    expect(rows).to_have_count(1 + len(listed))
    page.get_by_label("Kind", exact=True).select_option("tokenizer")
    expect(rows).to_have_count(1 + 1)
    expect(page).to_have_url(re.compile("kind=tokenizer"))
    page.reload()
    expect(rows).to_have_count(1 + 1)
    page.get_by_label("Kind", exact=True).select_option("")
    page.get_by_label("Filter by name, kind or digest").fill("lighthouse model")
    expect(rows).to_have_count(1 + 2)
    page.get_by_role("link", name="lighthouse", exact=True).click()

    expect(page.get_by_role("heading", name="Lighthouse, a small story model")).to_be_visible()
    expect(page.get_by_role("cell", name="card.md")).to_be_visible()
    graph = page.get_by_role("group", name=re.compile("^Lineage"))
    expect(graph.get_by_role("link")).to_have_count(4)
    # Of five edges, two are implied by a longer way.
    expect(graph.locator("path")).to_have_count(3)
    graph.get_by_role("link", name="lighthouse tokenizer").click()
    expect(page).to_have_url(re.compile(up.seeded.tokens.digest[7:]))
    expect(page.get_by_role("heading", level=1)).to_have_text("lighthouse tokenizer")
    page.get_by_role("link", name=re.compile("^run_")).click()
    expect(page.get_by_role("heading", name="tokenizer")).to_be_visible()


def unload_base(page: Page) -> None:
    """Other tests ask the same model."""
    body = {"model": "lighthouse-base"}
    assert page.request.post("/api/models/unload", data=body, headers=OWN_PAGE).ok


def test_models_are_brought_into_memory_and_let_go(page: Page) -> None:
    unload_base(page)
    page.goto("/models")
    row = page.get_by_role("row", name=re.compile("lighthouse-base"))
    meter = page.get_by_role("meter", name="Memory for models")
    expect(meter).to_have_attribute("aria-valuetext", re.compile("^Models take .*B of .*B$"))
    expect(row).to_contain_text("not loaded")
    row.get_by_role("button", name="Load lighthouse-base").click()
    expect(row).to_contain_text(re.compile(r"MB, used \d\d:\d\d"))
    row.get_by_role("button", name="Unload lighthouse-base").click()
    expect(row).to_contain_text("not loaded")
    expect(
        page.get_by_role("row", name=re.compile("tokenizer")).get_by_role("button", name="Load")
    ).to_have_count(0)


def test_memory_that_changes_is_told_as_it_is(new_page: NewPage, up: Up, axe: str) -> None:
    page = new_page(viewport=PHONE, has_touch=True, is_mobile=True, color_scheme="dark")
    base: dict[str, Any] = {"task": "text", "parent": "", "pinned": False, "last_used": None}
    busy = base | {
        "name": "lighthouse",
        "digest": up.seeded.model.digest,
        "state": "loaded",
        "resident_bytes": 68_400_000,
        "loading": "",
        "num_requests": 3,
        "pinned": True,
    }
    with Registry.open(up.settings) as registry:
        digest = registry.get("lighthouse-base").digest
    coming = busy | {"name": "lighthouse-base", "digest": digest, "state": "loading", "num_requests": 1}
    coming |= {"loading": "packing weights: 40%, 12 s left"}
    told = {"budget": 100_000_000, "held": 136_800_000, "models": [busy, coming]}
    page.route("**/api/models/memory", lambda route: route.fulfill(json=told))
    page.goto("/models")
    expect(page.get_by_role("meter")).to_have_attribute("aria-valuenow", "100")
    expect(page.get_by_text("answers 3 requests")).to_be_visible()
    expect(page.get_by_role("button", name="Unload lighthouse", exact=True)).to_be_disabled()
    expect(page.get_by_text("packing weights: 40%, 12 s left")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("lighthouse-base"))).to_have_count(0)
    assert overflow(page) == []
    assert violations(page, axe) == []


def test_a_load_that_is_refused_is_told(page: Page) -> None:
    refusal = {
        "error": {"message": "there is no room", "remedy": "give models more", "code": "model.no_room"}
    }
    page.route("**/api/models/load", lambda route: route.fulfill(status=507, json=refusal))
    unload_base(page)
    page.goto("/models")
    page.get_by_role("button", name="Load lighthouse-base").click()
    expect(page.get_by_text("There is no room. Give models more.").first).to_be_visible()
    expect(page.get_by_role("button", name="Load lighthouse-base")).to_be_enabled()


def test_who_is_no_administrator_sees_memory_and_moves_nothing(up: Up, browser: Browser) -> None:
    with Registry.open(up.settings) as registry:
        key = Identity(registry.database).create_key("ada")
    context = browser.new_context(base_url=up.url, extra_http_headers={"authorization": f"Bearer {key}"})
    page = context.new_page()
    page.goto("/models")
    expect(page.get_by_role("meter")).to_be_visible()
    expect(page.get_by_text("not loaded").first).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^(Load|Unload)"))).to_have_count(0)
    context.close()


def test_a_model_page_leads_to_a_chat_with_that_model(page: Page) -> None:
    page.goto("/models")
    page.get_by_role("link", name="lighthouse-base", exact=True).click()
    page.get_by_role("link", name="Chat with it").click()
    choice = page.get_by_label("Model", exact=True)
    expect(choice).to_have_value("lighthouse-base")
    choice.select_option("lighthouse")
    expect(choice).to_have_value("lighthouse")


def test_a_build_shows_its_curves_and_the_stages_it_reused(page: Page, up: Up) -> None:
    page.goto("/runs")
    page.get_by_label("Status").select_option("failed")
    page.get_by_role("link", name="storm").click()
    expect(page.get_by_role("alert")).to_contain_text("the disk is full")
    page.goto(f"/runs/{up.seeded.build_id}")
    expect(page.get_by_role("img", name=re.compile("^Loss curve"))).to_have_count(2)
    stages = page.get_by_role("region", name="Stages").get_by_role("row")
    expect(stages).to_have_count(1 + 4)
    expect(stages.filter(has_text="unchanged")).to_have_count(2)
    page.get_by_role("button", name="Log").first.click()
    page.get_by_text("Steps").first.click()
    expect(page.locator(".plot canvas").first).to_be_visible()


def test_the_loss_of_a_running_run_grows_by_itself(page: Page, up: Up) -> None:
    with Registry.open(up.settings) as registry:
        run = registry.start_run(recipe="lighthouse", stage="pretrain", config={"steps": 100})
        write_metrics(registry, run.run_id, start=1, stop=21)
        page.goto(f"/runs/{run.run_id}")
        facts = page.locator(".loss-facts")
        expect(facts).to_contain_text("step 20")
        expect(page.get_by_text("live")).to_be_visible()
        write_metrics(registry, run.run_id, start=21, stop=41)
        expect(facts).to_contain_text("step 40")
        write_metrics(registry, run.run_id, start=41, stop=45)
        registry.finish_run(run.run_id, status="succeeded")
    expect(facts).to_contain_text("step 44")
    expect(page.get_by_text("succeeded")).to_be_visible()


def test_the_theme_follows_the_system_until_chosen(new_page: NewPage) -> None:
    page = new_page(color_scheme="dark")
    page.goto("/settings")
    scheme = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(scheme)
    page.get_by_text("Light", exact=True).click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    light = page.evaluate(scheme)
    assert dark != light
    page.reload()
    expect(page.get_by_role("radio", name="Light")).to_be_checked()
    assert page.evaluate(scheme) == light


def test_a_conversation_on_a_phone(new_page: NewPage, axe: str) -> None:
    page = new_page(viewport=PHONE, has_touch=True, is_mobile=True)
    page.goto("/chat")
    page.get_by_role("button", name="Tell me a story").tap()
    expect(page.get_by_role("button", name="Receipt")).to_be_visible()
    assert violations(page, axe) == []
    assert overflow(page) == []
    page.get_by_role("button", name="Receipt").tap()
    expect(page.get_by_role("complementary", name="Receipt")).to_contain_text("cairn replay")
    assert violations(page, axe) == []
    page.get_by_role("button", name="Close receipt").tap()
    page.get_by_role("button", name="Conversations").tap()
    drawer = page.get_by_role("dialog", name="Conversations")
    expect(drawer.get_by_role("link", name="New chat")).to_be_visible()
    assert violations(page, axe) == []
    drawer.get_by_role("link", name="New chat").tap()
    expect(page.get_by_role("heading", name="What shall we write?")).to_be_visible()


def test_the_palette_finds_rooms_models_and_actions(page: Page, axe: str) -> None:
    page.goto("/chat")
    page.get_by_role("button", name="Go to").click()
    expect(page.get_by_role("option", name="Models")).to_be_visible()
    assert violations(page, axe) == []
    page.get_by_role("combobox").fill("theme")
    expect(page.get_by_role("option")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.keyboard.press("Control+k")
    page.get_by_role("combobox").fill("runs")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/runs"))


def test_on_a_phone_the_rail_shows_the_room_that_one_is_in(new_page: NewPage) -> None:
    page = new_page(viewport=PHONE)
    rail = page.get_by_role("navigation", name="Rooms")
    page.goto("/settings")
    expect(rail.get_by_role("link", name="Settings")).to_be_in_viewport(ratio=1)
    page.goto("/chat")
    expect(rail.get_by_role("link", name="Chat", exact=True)).to_be_in_viewport(ratio=1)
