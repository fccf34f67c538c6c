"""A real server in a thread on a free port, over scripted or real models, and clients that talk to it."""

import importlib.util
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from cairn.core import Settings
from cairn.core.errors import NotFoundError
from cairn.engine import EngineConfig
from cairn.providers.encoder_loading import AnyEncoder
from cairn.providers.protocol import TextProvider
from cairn.registry import Registry
from cairn.server.config import ServerConfig
from cairn.server.identity import Identity
from cairn.server.models import ModelPool
from cairn.server.serving import CairnServer, listen, make_server
from cairn.server.state import MemoryUse, Models, ServedModel, ServerState
from tests.providers.scripted import Scripted

collect_ignore = [] if importlib.util.find_spec("grpc_tools") else ["grpc"]
"""gRPC is an extra; `cairn[test]` has it."""

REPLY = "stones mark the way 🙂"
PATIENCE = 60.0
"""Seconds after which a test gives up waiting for what must happen."""


class ScriptedModels:
    """Scripted providers under their names."""

    def __init__(self, *scripted: Scripted) -> None:
        self.by_name = {each.provider.name: each for each in scripted}
        self.reason = ""

    def served(self) -> Sequence[ServedModel]:
        return [ServedModel(name, "sha256:" + "5c" * 32, 1.0) for name in self.by_name]

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[TextProvider]:
        if name not in self.by_name:
            raise NotFoundError(f"no model {name!r}")
        yield self.by_name[name].provider

    def encoders(self) -> Sequence[ServedModel]:
        return []

    def use_encoder(self, name: str) -> AbstractAsyncContextManager[AnyEncoder]:
        raise NotFoundError(f"no model {name!r}")

    async def load(self, name: str) -> None:
        assert name in self.by_name

    async def unload(self, name: str) -> bool:
        return name in self.by_name and False

    def set_aside(self, num_bytes: Callable[[], int]) -> None: ...

    def memory(self) -> MemoryUse:
        return MemoryUse(budget=0, held=0)

    def problem(self) -> str:
        return self.reason

    async def warm_up(self) -> None: ...

    async def close(self) -> None: ...

    def loaded(self) -> Sequence[TextProvider]:
        return [each.provider for each in self.by_name.values()]


@dataclass
class Running:
    """A server that answers at `url`."""

    url: str
    key: str
    state: ServerState
    server: CairnServer
    thread: threading.Thread
    clients: list[Any] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def http(self, key: str | None = None, **options: Any) -> httpx2.Client:
        """A plain client; signed in with the admin's key unless told another, or none with ''."""
        headers = {} if key == "" else {"authorization": f"Bearer {key or self.key}"}
        client = httpx2.Client(base_url=self.url, headers=headers, timeout=PATIENCE, **options)
        self.clients.append(client)
        return client

    def client(self, **options: Any) -> openai.OpenAI:
        client = openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=PATIENCE, **options
        )
        self.clients.append(client)
        return client

    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=PATIENCE
        )

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Poll until something is so; fails loudly when it never is."""
        tick = threading.Event()
        for _ in range(int(PATIENCE / 0.01)):
            if holds():
                return
            tick.wait(0.01)
        raise AssertionError("it did not happen")

    def anthropic(self, **options: Any) -> Any:
        """Anthropic's client; without its types, which know nothing but Anthropic's own models and tools."""
        values: dict[str, Any] = {"api_key": self.key, "max_retries": 0, "timeout": PATIENCE} | options
        client = anthropic.Anthropic(base_url=self.url, **values)
        self.clients.append(client)
        return client

    def stop(self) -> None:
        for client in self.clients:
            client.close()
        self.server.should_exit = True
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


Serve = Callable[..., Running]
Script = Callable[..., Scripted]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def either_registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    """An empty registry, in a database of each sort."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    with Registry.open(Settings(home=tmp_path / "home", database_url=url)) as opened:
        yield opened


@pytest.fixture
def script() -> Iterator[Script]:
    """Make scripted models that are stopped at the end."""
    made: list[Scripted] = []

    def build(reply: str = REPLY, **options: Any) -> Scripted:
        made.append(Scripted(reply, **options))
        return made[-1]

    yield build
    for each in made:
        each.stop()


@pytest.fixture
def serve(registry: Registry, script: Script) -> Iterator[Serve]:
    """Start servers: `serve()`, `serve(script("text"))`, `serve(models=pool, write_seconds=1)`."""
    running: list[Running] = []

    def start(*scripted: Scripted, models: Models | None = None, **values: Any) -> Running:
        config = ServerConfig(port=0, **values)
        if models is None:
            models = ScriptedModels(*(scripted or (script(),)))
            for each in scripted:
                each.save = registry.save_receipt
        identity = Identity(registry.database)
        key = identity.ensure_admin() or identity.create_key("admin")
        state = ServerState(registry=registry, config=config, models=models, identity=identity)
        sock = listen(config.host, config.port, write_seconds=config.write_seconds)
        server = make_server(state)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        found = Running(f"http://127.0.0.1:{sock.getsockname()[1]}", key, state, server, thread)
        running.append(found)
        found.wait_until(lambda: server.started)
        return found

    yield start
    for each in running:
        # What a test left at the gate must not hold up the shutdown.
        for provider in each.state.models.loaded():
            runner = getattr(provider, "engine").engine.runner  # noqa: B009 (not part of the protocol)
            if hasattr(runner, "gate"):
                runner.is_gated = False
                runner.gate.release(1000)
        each.stop()


@pytest.fixture
def server(serve: Serve, script: Script) -> Running:
    """A server with one scripted model, whose receipts are kept."""
    return serve(script())


@pytest.fixture
def pool(registry: Registry) -> ModelPool:
    """The real models of the registry."""
    return ModelPool(registry, ServerConfig(kv_cache_bytes=4_000_000))


def small_queue() -> EngineConfig:
    """One at a time, nobody waits."""
    return EngineConfig(max_num_seqs=1, max_waiting=0)
