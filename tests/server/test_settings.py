"""`/api/settings`: what is in force, where it comes from, and no secrets."""

import json
from typing import Any

from cairn.core import Config, Settings
from cairn.server.config import ServerConfig, SignOnConfig
from cairn.server.operations import Source, _settings
from tests.server.conftest import Serve


def told(config: Config, given: Source) -> dict[str, dict[str, Any]]:
    return {each.name: each.model_dump() for each in _settings(config, given)}


def test_where_a_setting_comes_from() -> None:
    sign_on = SignOnConfig(issuer="https://id.example.org", client_id="cairn", client_secret="hush")
    found = told(ServerConfig(port=9000, host="127.0.0.1", sign_on=sign_on), "command line")
    assert (found["port"]["value"], found["port"]["default"], found["port"]["source"]) == (
        "9000",
        "8642",
        "command line",
    )
    assert found["host"]["source"] == "default"  # given, and the same
    assert found["sign_on"]["source"] == "file"
    assert json.loads(found["sign_on"]["value"])["client_secret"] == "***"
    assert "hush" not in str(found)
    assert all(each["description"] for each in found.values())


def test_passwords_in_addresses_are_left_out() -> None:
    env = {
        "CAIRN_HOME": "/srv/cairn",
        "CAIRN_DATABASE_URL": "postgresql://cairn:hush@db.example.org/cairn",
        "CAIRN_REDIS_URL": "redis://:hush@cache.example.org",
    }
    found = told(Settings.from_env(env), "environment")
    assert found["CAIRN_HOME"]["value"] == '"/srv/cairn"'
    assert found["CAIRN_DATABASE_URL"]["value"] == '"postgresql://cairn:***@db.example.org/cairn"'
    assert found["CAIRN_REDIS_URL"]["value"] == '"redis://:***@cache.example.org"'
    assert found["CAIRN_REDIS_URL"]["source"] == "environment"
    assert found["CAIRN_MIRROR"]["source"] == "default"


def test_it_is_the_operators(serve: Serve) -> None:
    server = serve(max_waiting=7)
    found = {each["name"]: each for each in server.http().get("/api/settings").json()}
    assert found["max_waiting"]["value"] == "7"
    builder = server.http(server.state.identity.create_key("ada", roles=("builder",)))
    assert builder.get("/api/settings").status_code == 403
