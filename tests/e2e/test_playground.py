"""The Playground: one request with all its settings, its answer taken apart, and code that asks the same."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from cairn.registry import Registry
from cairn.server.identity import Identity
from tests.e2e.conftest import PHONE, NewPage, overflow, violations
from tests.e2e.serving import Up

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"place": {"enum": ["hill", "house"]}},
            "required": ["place"],
            "additionalProperties": False,
        },
    },
}
FOX = {
    "type": "object",
    "properties": {"fox": {"type": "boolean"}},
    "required": ["fox"],
    "additionalProperties": False,
}


def answer(page: Page, name: str = "Answer") -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def run(page: Page) -> None:
    page.get_by_role("button", name="Run").click()
    done(page)


def done(page: Page) -> None:
    expect(page.get_by_role("button", name="Run")).to_be_visible()


def keep(page: Page, messages: list[dict[str, Any]], *sides: dict[str, Any]) -> None:
    """Have the browser remember a draft, and open it."""
    page.goto("/settings")
    draft = json.dumps({"messages": messages, "sides": [{"model": "lighthouse"} | side for side in sides]})
    page.evaluate("draft => localStorage.setItem('cairn.playground', draft)", draft)
    page.goto("/playground")
    expect(page.get_by_label("Message 1", exact=True)).to_be_visible()


def code(page: Page, language: str) -> str:
    """The code of the request on show."""
    page.get_by_role("button", name="Code", exact=True).click()
    dialog = page.get_by_role("dialog", name="The request as code")
    dialog.get_by_text(language, exact=True).click()
    figure = dialog.get_by_role("figure")
    expect(figure).to_be_visible()
    text = figure.locator("code").inner_text()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    return text


@pytest.fixture(scope="module")
def key(up: Up) -> str:
    with Registry.open(up.settings) as registry:
        return Identity(registry.database).create_key("ada")


def executed(text: str, key: str) -> str:
    """What exported code prints when it is run."""
    command = ["bash", "-c", text] if text.startswith("curl") else [sys.executable, "-c", text]
    env = {**os.environ, "CAIRN_API_KEY": key}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return ended.stdout


def said_by_curl(printed: str) -> str:
    """The text in what curl prints: one body, or the chunks of a stream."""
    if printed.startswith("{"):
        return str(json.loads(printed)["choices"][0]["message"]["content"])
    chunks = [json.loads(line[6:]) for line in printed.splitlines() if line.startswith("data: {")]
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


@pytest.mark.parametrize(
    "side",
    [
        pytest.param(
            {"numbers": {"temperature": 0, "top_p": 0.9, "top_k": 8, "max_tokens": 24}}, id="streamed"
        ),
        pytest.param({"numbers": {"temperature": 0, "max_tokens": 24}, "isStreamed": False}, id="whole"),
        pytest.param(
            {
                "numbers": {"temperature": 0, "max_tokens": 40},
                "form": "json_schema",
                "forms": {"json_schema": json.dumps(FOX)},
                "stop": ["never said", 'with "quotes" and $HOME'],
            },
            id="schema",
        ),
    ],
)
def test_exported_code_says_what_the_page_says(page: Page, key: str, side: dict[str, Any]) -> None:
    # Greedy, because Anthropic's messages know no seed.
    system = {"role": "system", "content": "It's \"so\": $HOME `id` \\n\nand 'on'."}
    keep(page, [system, {"role": "user", "content": "Tell me a täle 🦊."}], side)
    run(page)
    said = answer(page).locator(".play-text").inner_text()
    assert said
    assert said_by_curl(executed(code(page, "curl"), key)).strip() == said.strip()
    assert executed(code(page, "Python (openai)"), key).strip() == said.strip()
    assert executed(code(page, "Python (anthropic)"), key).strip() == said.strip()


def test_exported_code_has_every_setting(page: Page, key: str) -> None:
    every = {
        "numbers": {
            "temperature": 0.9,
            "top_p": 0.95,
            "top_k": 20,
            "min_p": 0.01,
            "frequency_penalty": 0.1,
            "presence_penalty": 0.1,
            "repetition_penalty": 1.05,
            "max_tokens": 16,
            "seed": 5,
            "n": 2,
        },
        "stop": ["zzz"],
        "stopTokens": "1",
        "ignoreEos": True,
        "logitBias": '{"5": -3}',
        "logprobs": True,
        "topLogprobs": 2,
        "form": "regex",
        "forms": {"regex": "[a-z ]{8,40}"},
        "effort": "low",
        "templateOptions": '{"enable_thinking": false}',
    }
    keep(page, [{"role": "user", "content": "Go"}], every)
    run(page)
    page.get_by_text("Text", exact=True).click()
    said = answer(page).locator(".play-text").all_inner_texts()
    assert len(said) == 2
    assert executed(code(page, "Python (openai)"), key).splitlines() == said
    assert said_by_curl(executed(code(page, "curl"), key))
    page.get_by_role("button", name="Code", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Python (anthropic)").click()
    expect(dialog).to_contain_text("Anthropic’s messages have no seed.")
    expect(dialog.get_by_role("figure")).to_have_count(0)


def test_a_tool_is_called_and_the_conversation_goes_on(page: Page, key: str, axe: str) -> None:
    side = {
        "numbers": {"temperature": 0, "max_tokens": 60},
        "tools": json.dumps([WEATHER]),
        "toolChoice": "function:weather",
    }
    keep(page, [{"role": "user", "content": "How is it there?"}], side)
    run(page)
    call = answer(page).get_by_role("list", name="Calls of tools").get_by_role("listitem")
    expect(call).to_contain_text("weather")
    call.locator("summary").click()
    expect(call.get_by_role("figure")).to_contain_text('"place"')
    assert violations(page, axe) == []
    for language in ("Python (openai)", "Python (anthropic)"):
        assert re.search(
            r"weather \{['\"]place['\"]: ?['\"](hill|house)", executed(code(page, language), key)
        )

    answer(page).get_by_role("button", name="Go on from this reply").click()
    expect(page.get_by_label("Role of message 2")).to_have_value("assistant")
    expect(page.get_by_label("Call that message 3 answers")).to_have_value(re.compile(r"\S"))
    page.get_by_label("Message 3", exact=True).fill("It rains.")
    page.get_by_label("Calls", exact=True).select_option("none")
    run(page)
    expect(answer(page).locator(".play-text")).not_to_be_empty()
    said = answer(page).locator(".play-text").inner_text()
    for language in ("Python (openai)", "Python (anthropic)"):
        assert executed(code(page, language), key).strip() == said.strip()


def test_a_reload_loses_nothing(page: Page) -> None:
    page.goto("/playground?model=lighthouse-base")
    expect(page).to_have_url(re.compile("/playground$"))
    page.get_by_label("Message 2", exact=True).fill("Stay with me")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Max tokens").fill("12")
    page.get_by_label("Message 2", exact=True).press("Control+Enter")
    expect(answer(page)).to_contain_text("Receipt")
    said = answer(page).locator(".play-text").inner_text()
    page.reload()
    expect(page.get_by_label("Model", exact=True)).to_have_value("lighthouse-base")
    expect(page.get_by_label("Message 2", exact=True)).to_have_value("Stay with me")
    expect(page.get_by_label("Seed")).to_have_value("7")
    expect(answer(page).locator(".play-text")).to_have_text(said)
    expect(answer(page)).to_contain_text("tokens/s")
    expect(answer(page)).to_contain_text("First token")
    expect(answer(page)).to_contain_text("12 tokens")

    page.get_by_role("button", name="Start over").click()
    expect(page.get_by_label("Message 2", exact=True)).to_have_value("")
    expect(page.get_by_label("Seed")).to_have_value("")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_label("Message 2", exact=True)).to_have_value("Stay with me")
    expect(page.get_by_label("Seed")).to_have_value("7")


def test_token_probabilities_are_shown_by_pointer_and_keyboard(page: Page, axe: str) -> None:
    side = {"numbers": {"temperature": 0, "max_tokens": 20}, "logprobs": True, "topLogprobs": 3}
    keep(page, [{"role": "user", "content": "Walk"}], side)
    run(page)
    tokens = page.get_by_role("listbox", name="Tokens")
    expect(tokens.get_by_role("option")).to_have_count(20)
    tokens.get_by_role("option").nth(4).hover()
    facts = page.locator(".play-token")
    expect(facts).to_contain_text("%")
    expect(facts.locator("dl > div")).to_have_count(3)
    tokens.focus()
    page.keyboard.press("ArrowRight")
    expect(tokens.get_by_role("option").nth(5)).to_have_attribute("aria-selected", "true")
    expect(tokens.get_by_role("option").nth(5)).to_have_attribute("aria-label", re.compile("%$"))
    assert violations(page, axe) == []


def test_what_cannot_be_sent_is_said_at_its_field(page: Page) -> None:
    keep(page, [{"role": "user", "content": "Hm"}], {"tools": "[{"})
    expect(page.get_by_label("Tools (JSON)")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("button", name="Run")).to_be_disabled()
    page.get_by_label("Tools (JSON)").fill("")
    expect(page.get_by_role("button", name="Run")).to_be_enabled()
    page.get_by_label("Temperature").fill("1000")
    expect(page.get_by_text("0 to 100", exact=True)).to_be_visible()
    # What only the server knows it says itself.
    page.get_by_label("Temperature").fill("0")
    page.get_by_text("Form of the reply").click()
    page.get_by_label("Held to").select_option("regex")
    page.get_by_label("A regular expression").fill("(never closed")
    run(page)
    expect(answer(page).get_by_role("alert")).to_contain_text("No reply")
    expect(answer(page).get_by_role("alert")).to_contain_text("regex")


def test_stop_keeps_what_had_come(page: Page) -> None:
    keep(page, [{"role": "user", "content": "Go on for ever."}], {"numbers": {"temperature": 0}})
    page.get_by_role("button", name="Run").click()
    expect(answer(page)).to_contain_text("the fox went to the fox went to")
    page.get_by_role("button", name="Stop").click()
    done(page)
    expect(answer(page)).to_contain_text("stopped")
    page.reload()
    expect(answer(page)).to_contain_text("the fox went to the fox went to")


def test_two_models_answer_side_by_side_and_one_is_better(page: Page, up: Up, axe: str) -> None:
    greedy = {"numbers": {"temperature": 0, "max_tokens": 15}}
    keep(page, [{"role": "user", "content": "Which way?"}], greedy)
    page.get_by_role("button", name="Compare").click()
    page.get_by_label("Model B").select_option("lighthouse-base")
    page.get_by_text("of B", exact=True).click()
    page.get_by_label("Max tokens").fill("10")
    run(page)
    for name, tokens in (("Answer A", "15 tokens"), ("Answer B", "10 tokens")):
        expect(answer(page, name)).to_contain_text("tokens/s")
        expect(answer(page, name)).to_contain_text(tokens)
    with page.expect_response("**/api/preferences") as stored:
        page.get_by_role("button", name="B is better").click()
    (said,) = stored.value.json()["data"]
    expect(page.get_by_role("button", name="B is better")).to_have_attribute("aria-pressed", "true")
    assert violations(page, axe) == []
    with Registry.open(up.settings) as registry:
        models = [registry.receipt(said[each]).model for each in ("chosen", "rejected")]
    assert models == ["lighthouse-base", "lighthouse"]
    page.reload()
    expect(page.get_by_role("button", name="B is better")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="B is better").click()
    expect(page.get_by_role("button", name="B is better")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="Compare").click()
    expect(answer(page)).to_contain_text("15 tokens")


def test_it_fits_a_phone_in_the_dark(new_page: NewPage, axe: str) -> None:
    page = new_page(viewport=PHONE, color_scheme="dark")
    keep(page, [{"role": "user", "content": "Small"}], {"numbers": {"max_tokens": 30}, "logprobs": True})
    run(page)
    assert overflow(page) == []
    assert violations(page, axe) == []
    page.get_by_role("button", name="Code", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert overflow(page) == []
    assert violations(page, axe) == []
