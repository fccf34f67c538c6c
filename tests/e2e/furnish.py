"""A house that looks lived in: people, keys, limits, routes, documents, weeks of use, and a conversation."""

import math
import random
import time
from typing import Any

from playwright.sync_api import Page, expect

from cairn.core import Settings
from cairn.registry import Registry
from cairn.server.usage.ledger import latency_step
from cairn.server.usage.tables import UsageRow
from tests.e2e.chromium import ROOT
from tests.e2e.conftest import OWN_PAGE

_PEOPLE = (
    ("mara", "Mara Lindqvist", ("member",)),
    ("tomas", "Tomás Reyes", ("builder",)),
    ("yuki", "Yuki Tanaka", ("member",)),
    ("report", "Nightly report", ("service",)),
)
_GROUPS = (("editors", "Writes and reviews texts", ("mara", "yuki")), ("engineering", "", ("tomas",)))
_KEYS = ("Notebook", "Help desk", "Nightly report")
_ROUTES = """\
# Who answers to which name. Put in force without a restart.
[routes.assistant]
targets = [{ model = "lighthouse", weight = 3 }, { model = "lighthouse-base" }]

[routes.assistant.canary]
percent = 10
target = { model = "lighthouse-base" }
"""
_LIMITS = (
    {"kind": "user", "name": "*", "metric": "requests", "window": "minute", "amount": 60},
    {"kind": "all", "name": "", "metric": "money", "window": "month", "amount": 250_000_000},
)
_PROMPTS = (
    {"name": "Summary", "content": "Summarise this in three sentences:\n\n{{text}}", "is_shared": True},
    {
        "name": "Translate",
        "content": "Translate into {{language}}, and keep the tone:\n\n{{text}}",
        "is_shared": True,
    },
    {"name": "Weekly letter", "content": "Write a short letter to the team about {{subject}}."},
    {
        "name": "Proofread",
        "content": "List every mistake in spelling and grammar, and correct it:\n\n{{text}}",
    },
)
_QUESTION = "Which hash protects passwords?"
_DAYS = 30
_DOCUMENTS = ("identity.md", "routing.md", "limits.md", "knowledge.md")


def furnish(page: Page, settings: Settings) -> None:
    """All of it; `page` is signed in as the administrator."""
    for user, name, roles in _PEOPLE:
        _ask(page, "post", "/api/people", {"user_id": user, "display_name": name, "roles": roles})
    for group, about, members in _GROUPS:
        _ask(page, "post", "/api/groups", {"name": group, "description": about})
        for member in members:
            _ask(page, "put", f"/api/groups/{group}/members/{member}", {})
    for name in _KEYS:
        _ask(page, "post", "/api/keys", {"name": name, "scopes": ["chat", "read_models"]})
    _ask(page, "put", "/api/routes", {"text": _ROUTES, "digest": None})
    _ask(page, "put", "/api/routes/assistant/canary", {"percent": 15})
    for limit in _LIMITS:
        _ask(page, "put", "/api/limits", limit)
    for prompt in _PROMPTS:
        _ask(page, "post", "/api/prompts", prompt)
    write_usage(settings)
    fill_a_collection(page)
    converse(page)


def _ask(page: Page, method: str, path: str, body: object) -> Any:
    answer = getattr(page.request, method)(path, data=body, headers=OWN_PAGE)
    assert answer.ok, (path, answer.text())
    return answer.json() if answer.text() else None


def write_usage(settings: Settings) -> None:
    """Requests of a month: more by day than by night, fewer at weekends."""
    chance, now = random.Random(7), time.time()
    rows = []
    for hour in range(_DAYS * 24):
        at = now - hour * 3600
        local = time.gmtime(at)
        busy = max(0.1, math.sin((local.tm_hour - 5) / 14 * math.pi)) * (0.3 if local.tm_wday > 4 else 1)
        for user, share in (("mara", 3), ("yuki", 2), ("tomas", 2), ("report", 1)):
            if num := round(busy * share * chance.uniform(2, 9)):
                rows.append(_row(chance, f"seed-{hour}-{user}", at, user, num))
    with Registry.open(settings) as registry, registry.database.writing() as session:
        session.add_all(rows)


def _row(chance: random.Random, usage_id: str, at: float, user: str, num: int) -> UsageRow:
    model, seconds = chance.choice(("assistant", "lighthouse")), chance.lognormvariate(0, 0.6)
    read, out = num * chance.randrange(200, 900), num * chance.randrange(80, 400)
    zeros = {
        column.name: 0 for column in UsageRow.__table__.columns if column.type.python_type in (int, float)
    }
    texts = {column.name: "" for column in UsageRow.__table__.columns if column.type.python_type is str}
    given = {
        "usage_id": usage_id,
        "at": at,
        "hour": int(at // 3600),
        "user_id": user,
        "model": model,
        "target": f"local/{model}",
        "endpoint": "chat",
        "num_requests": num,
        "prompt_tokens": read,
        "cached_tokens": read // 3,
        "completion_tokens": out,
        "cost": read * 2 + out * 8,
        "currency": "USD",
        "seconds": seconds * num,
        "first_token_seconds": seconds * num / 6,
        "num_first": num,
        "latency_step": latency_step(seconds),
        "outcome": "ok" if chance.random() < 0.98 else "failed",
    }
    return UsageRow(**zeros | texts | given)


def fill_a_collection(page: Page) -> None:
    """Some of Cairn's own pages."""
    ref = _ask(page, "post", "/api/collections", {"name": "handbook", "labels": ["everyone"]})["ref"]
    page.goto(f"/knowledge/{ref}")
    page.get_by_label("Files to put in").set_input_files([ROOT / "docs" / name for name in _DOCUMENTS])
    expect(page.get_by_text("All files are through")).to_be_visible(timeout=600_000)


def converse(page: Page) -> None:
    """A story by the starter model, and an answer from the collection."""
    models = page.request.get("/v1/models").json()["data"]
    names = [each["id"] for each in models if each["cairn"]["task"] == "text"]
    own = next((name for name in names if not name.startswith(("lighthouse", "assistant"))), names[0])
    page.goto(f"/chat?model={own}")
    page.get_by_role("button", name="Tell me a story").click()
    expect(page.get_by_role("button", name="Receipt").first).to_be_visible(timeout=240_000)
    page.goto(f"/chat?model={own}&knowledge=handbook")
    expect(page.get_by_role("button", name="Knowledge: handbook")).to_be_visible()
    page.get_by_role("textbox", name="Message").fill(_QUESTION)
    page.keyboard.press("Enter")
    expect(page.get_by_role("list", name="Sources")).to_be_visible(timeout=240_000)
    # What was chosen last is what the next chat begins with.
    page.goto("/chat")
    page.get_by_role("button", name="Knowledge: handbook").click()
    page.get_by_role("menuitemradio", name="None").click()
    expect(page.get_by_role("button", name="Knowledge: none")).to_be_visible()
