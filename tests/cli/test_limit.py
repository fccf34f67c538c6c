"""`cairn limit` and `cairn usage` as a person types them."""

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cairn.cli import app
from cairn.cli.artifact import local_actor
from cairn.core import CairnError, Settings
from cairn.registry import Registry
from cairn.server.usage.ledger import Ledger
from tests.server.usage.conftest import entry


@pytest.fixture
def home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAIRN_HOME", str(settings.home))
    return settings.home


def cairn(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.usefixtures("home")
def test_limits_are_set_listed_and_removed() -> None:
    assert "cairn limit set" in cairn("limit", "ls").stderr
    made = cairn("limit", "set", "user:*", "requests", "60/minute").stdout.strip()
    cairn("limit", "set", "group:makers", "money", "12.50/month", "--warn", "--model", "big")
    cairn("limit", "set", "all", "concurrent", "4")
    assert [line.split("\t")[1:] for line in cairn("limit", "ls").stdout.splitlines()] == [
        ["all", "-", "concurrent", "4", "stop"],
        ["group:makers", "big", "money", "12.50/month", "warn"],
        ["user:*", "-", "requests", "60/minute", "stop"],
    ]
    assert cairn("limit", "set", "user:*", "requests", "90/minute").stdout.strip() == made
    assert json.loads(cairn("limit", "ls", "--json").stdout)[2]["amount"] == 90
    assert "removed user:* requests 90/minute" in cairn("limit", "rm", made).stderr
    assert len(cairn("limit", "ls").stdout.splitlines()) == 2
    with Registry.open() as registry:
        acted = {(each.action, each.actor) for each in registry.audit.entries()}
    assert acted == {("limit.set", local_actor()), ("limit.remove", local_actor())}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["person:ada", "requests", "5/day"], "kind"),
        (["user:ada", "requests", "5.5/day"], "give a whole number"),
        (["user:ada", "money", "0.0000001/day"], "at most 6 decimals"),
        (["user:ada", "money", "lots/day"], "'lots' is no amount of money"),
        (["user:ada", "requests", "5/fortnight"], "window"),
        (["user:ada", "requests", "5"], "no window '', allowed: minute, hour, day"),
    ],
)
def test_what_makes_no_sense(arguments: list[str], message: str) -> None:
    error = cairn("limit", "set", *arguments).exception
    assert isinstance(error, CairnError)
    assert message in str(error)


@pytest.mark.usefixtures("home")
def test_usage(settings: Settings) -> None:
    assert "Nothing was used" in cairn("usage").stderr
    with Registry.open(settings) as registry:
        ledger = Ledger(registry.database)
        now = time.time()
        ledger.put(entry("a", at=now, prompt_tokens=5, completion_tokens=2, cost=1_500_000, seconds=0.25))
        ledger.put(entry("b", at=now, user_id="bob", prompt_tokens=7))
        ledger.put(entry("c", at=now - 20 * 86400, prompt_tokens=1000))
        ledger.close()
    (line,) = cairn("usage", "--by", "user", "--user", "ada").stdout.splitlines()
    assert line.split("\t")[:7] == ["ada", "1", "0", "5", "0", "2", "1.50"]
    assert json.loads(cairn("usage", "--json").stdout)["total"]["prompt_tokens"] == 12
    assert json.loads(cairn("usage", "--days", "30", "--json").stdout)["total"]["prompt_tokens"] == 1012
    assert (
        cairn("usage", "--by", "model", "--csv").stdout.splitlines()[1].startswith("m,2,0,0,0,12,0,2,1.50,")
    )
