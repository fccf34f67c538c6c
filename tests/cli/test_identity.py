"""`cairn key`, `cairn user`, `cairn group`."""

import json
import time
from pathlib import Path

import pytest

from cairn.core import Settings
from cairn.core.errors import AuthenticationError
from cairn.registry import Registry
from cairn.server.identity import Identity
from tests.cli.test_serving import cairn, home

__all__ = ["home"]

PASSWORD = "a pile of stones"


def test_a_key_with_scopes_rotates_and_ends(home: Path, settings: Settings) -> None:
    made = cairn("key", "create", "ada", "--scope", "chat", "--model", "tiny", "--days", "2", "--name", "bot")
    key = made.stdout.strip()
    (row,) = json.loads(cairn("key", "ls", "--user", "ada", "--json").stdout)
    assert (row["name"], row["scopes"], row["models"], row["state"]) == ("bot", "chat", "tiny", "active")
    assert cairn("key", "create", "ada", "--scope", "manage_people").exit_code == 1
    rotated = json.loads(cairn("key", "rotate", row["id"], "--overlap", "1", "--json").stdout)
    assert 3500 < rotated["old_until"] - time.time() < 3700
    with Registry.open(settings) as registry:
        identity = Identity(registry.database)
        for each in (key, rotated["key"]):
            principal = identity.principal_for_key(each)
            assert (principal.scopes, principal.models) == (frozenset({"chat"}), frozenset({"tiny"}))
    assert cairn("key", "revoke", row["id"]).exit_code == 0
    assert cairn("key", "rotate", row["id"]).exit_code == 1


def test_people_and_groups(home: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cairn("user", "add", "ada", "--name", "Ada", "--email", "ada@example.org").exit_code == 0
    assert cairn("user", "add", "ada").exit_code == 1
    assert cairn("user", "add", "robot", "--role", "service").exit_code == 0
    assert cairn("user", "passwd", "ada", text=f"{PASSWORD}\n").exit_code == 0
    assert cairn("user", "passwd", "robot", text=f"{PASSWORD}\n").exit_code == 1
    assert cairn("group", "add", "geology").exit_code == 0
    assert cairn("group", "join", "geology", "ada").exit_code == 0
    assert json.loads(cairn("group", "ls", "--json").stdout) == [
        {"name": "geology", "description": "", "members": ["ada"]}
    ]
    people = {each["user_id"]: each for each in json.loads(cairn("user", "ls", "--json").stdout)}
    assert list(people) == ["ada", "admin", "robot"]
    assert (people["ada"]["groups"], people["ada"]["has_password"]) == (["geology"], True)
    with Registry.open(settings) as registry:
        identity = Identity(registry.database)
        assert identity.principal_for_password("ada@example.org", PASSWORD).groups == {"geology"}
    assert cairn("user", "roles", "ada", "builder").stdout.strip() == "builder"
    assert cairn("user", "roles", "ada", "boss").exit_code == 1
    assert "manage_models" in json.loads(cairn("user", "show", "ada", "--json").stdout)["permissions"]
    assert cairn("group", "leave", "geology", "ada").exit_code == 0
    assert cairn("group", "leave", "geology", "ada").exit_code == 1
    assert cairn("user", "disable", "ada").exit_code == 0
    assert "disabled" in cairn("user", "ls").stdout
    with Registry.open(settings) as registry, pytest.raises(AuthenticationError):
        Identity(registry.database).principal_for_password("ada", PASSWORD)
    assert cairn("user", "enable", "ada").exit_code == 0
    assert cairn("user", "disable", "admin").exit_code == 1  # the last administrator
    entries = json.loads(cairn("audit", "ls", "--json").stdout)
    assert {"user.add", "user.password", "group.join", "user.disable"} <= {each["action"] for each in entries}
    assert PASSWORD not in json.dumps(entries)


def test_the_table_is_shown() -> None:
    table = json.loads(cairn("user", "roles", "--json").stdout)
    assert "chat" in table["member"]
    assert "chat" not in table["viewer"]
    assert "manage_people" in cairn("user", "roles").stdout


def test_commands_that_act_for_somebody_ask_the_table(home: Path) -> None:
    cairn("user", "add", "ada")
    cairn("user", "disable", "ada")
    refused = cairn("ask", "what?", "--user", "ada")
    assert refused.exit_code == 1
    assert "ada is disabled" in str(refused.exception)
