"""`cairn route` before a running server, and what other commands say of routes."""

import json
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from cairn.cli import app
from cairn.registry import Registry
from cairn.server.running import published
from tests.providers.remote.upstream import FakeUpstream, whole
from tests.server.conftest import Running, Serve
from tests.server.routing.test_server import ask, providers, write

Cairn = Callable[..., Result]


@pytest.fixture
def cairn(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Cairn:
    monkeypatch.setenv("CAIRN_HOME", str(registry.settings.home))
    monkeypatch.setenv("STONE_KEY", "sk-secret-stone")
    return lambda *words: CliRunner().invoke(app, list(words))


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    made = FakeUpstream()
    yield made
    made.stop()


@pytest.fixture
def server(registry: Registry, serve: Serve, upstream: FakeUpstream) -> Iterator[Running]:
    write(registry, providers(q=upstream) + '\n[routes.way]\ntargets = [{ provider = "q", model = "s" }]')
    running = serve()
    with published(registry.settings.home, running.url):
        yield running


def test_ls_and_test_before_a_server(cairn: Cairn, server: Running) -> None:
    assert server.url
    tried = cairn("route", "test", "way", "hello")
    assert (tried.exit_code, tried.stdout) == (0, "stones mark\n")
    assert "q/s answered in" in tried.stderr
    listed = cairn("route", "ls")
    assert listed.stdout.split("\t")[:6] == ["way", "q/s", "ordered", "well", "0", "1"]
    assert json.loads(cairn("route", "ls", "--json").stdout)["routes"][0]["name"] == "way"


def test_receipts_of_another_server(cairn: Cairn, server: Running, registry: Registry) -> None:
    receipt = ask(server).headers["x-cairn-receipt"]
    shown = cairn("receipt", "show", receipt)
    assert shown.exit_code == 0, shown.output
    assert "way = q/s" in shown.stdout
    assert "stones mark" in shown.stdout
    assert receipt in cairn("receipt", "ls").stdout
    again = cairn("replay", receipt)
    assert again.exit_code == 1
    assert "answered by q/s" in str(again.exception)
    assert registry.receipt(receipt).artifact == ""


def test_check(registry: Registry, cairn: Cairn, upstream: FakeUpstream) -> None:
    good = providers(q=upstream) + '\n[routes.way]\ntargets = [{ provider = "q", model = "s" }]'
    write(registry, good)
    upstream.behave = whole({"data": [{"id": "s"}]})
    assert cairn("route", "check").exit_code == 0
    upstream.behave = whole({"data": [{"id": "other"}]})
    missing = cairn("route", "check", "--json")
    assert missing.exit_code == 1
    assert json.loads(missing.stdout)["providers"][0]["state"] == "missing"
    upstream.behave = whole({"error": {"message": "no: sk-secret-stone"}}, 401)
    refused = cairn("route", "check")
    assert refused.exit_code == 1
    assert "refused this server's key" in refused.stdout
    assert "sk-secret" not in refused.output
    assert cairn("route", "check", "--offline").exit_code == 0
    write(registry, good + "\n[routs]")
    broken = cairn("route", "check", "--offline")
    assert broken.exit_code == 1
    assert "line 9: unknown key 'routs'" in str(broken.exception)


def test_doctor_says_what_is_wrong_with_the_file(registry: Registry, cairn: Cairn) -> None:
    write(registry, "[routes.way]\ntargets = []")
    checks = {check["check"]: check for check in json.loads(cairn("doctor", "--json").stdout)}
    assert checks["routes"]["state"] == "broken"
    assert "line 2" in checks["routes"]["found"]
    write(registry, '[routes.way]\ntargets = [{ model = "x" }]')
    checks = {check["check"]: check for check in json.loads(cairn("doctor", "--json").stdout)}
    assert (checks["routes"]["state"], checks["routes"]["found"]) == ("ok", "way")
