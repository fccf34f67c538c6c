"""Requests made up from the OpenAPI document against a real server: none fails it, answers are as written.

The same requests every time. What a request must be refused for is tested where it is refused.
"""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cairn.core import Settings
from cairn.registry import Registry
from cairn.server.app import create_api
from cairn.server.config import ServerConfig
from cairn.server.identity import Identity
from cairn.server.serving import listen, make_server
from cairn.server.state import ServerState
from tests.providers.scripted import Scripted
from tests.server.conftest import PATIENCE, REPLY, Running, ScriptedModels

load_all_checks()
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]
generation = GenerationConfig(deterministic=True, max_examples=4, allow_x00=False, database="none")
project = ProjectConfig(generation=generation)
schema = schemathesis.openapi.from_dict(
    create_api().openapi(), config=SchemathesisConfig(projects=ProjectsConfig(default=project))
)
IDS: dict[str, str] = {}
"""Of things that are there, by the name of the path's parameter."""


@schema.hook
def map_body(_context: Any, body: Any) -> Any:
    """Ask for the model that is there."""
    return body | {"model": "scripted"} if isinstance(body, dict) and "model" in body else body


@schema.hook
def map_path_parameters(_context: Any, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Ask for things that are there."""
    return parameters and {name: IDS.get(name, value) for name, value in parameters.items()}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URL of a server with a scripted model, and its administrator's key."""
    scripted = Scripted(REPLY)
    with Registry.open(Settings(home=tmp_path_factory.mktemp("home"))) as registry:
        scripted.save = registry.save_receipt
        identity = Identity(registry.database)
        key = identity.ensure_admin()
        assert key is not None
        config = ServerConfig(port=0)
        models = ScriptedModels(scripted)
        state = ServerState(registry=registry, config=config, models=models, identity=identity)
        sock = listen(config.host, config.port, write_seconds=config.write_seconds)
        server = make_server(state)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        running = Running(f"http://127.0.0.1:{sock.getsockname()[1]}", key, state, server, thread)
        running.wait_until(lambda: server.started)
        make_things(running)
        yield running.url, key
        running.stop()
    scripted.stop()


def make_things(running: Running) -> None:
    """A file, a batch, a response and a conversation."""
    client = running.client()
    IDS["file_id"] = client.files.create(file=("a.txt", b"stones"), purpose="batch").id
    IDS["response_id"] = client.responses.create(model="scripted", input="where to?").id
    IDS["batch_id"] = client.batches.create(
        input_file_id=IDS["file_id"], endpoint="/v1/responses", completion_window="24h"
    ).id


@schema.parametrize()
@settings(
    max_examples=4,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_requests_that_the_document_allows(case: Any, address: tuple[str, str]) -> None:
    url, key = address
    response = case.call(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=PATIENCE)
    is_lost = response.status_code == 401 and not case.path.startswith("/api/sign-in")
    assert not is_lost, "the key does not work any more: nothing is tested from here on"
    case.validate_response(response, checks=CHECKS)
