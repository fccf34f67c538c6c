"""Upstreams and providers that ask them, with a key that must never show."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from cairn.providers.remote import ProviderConfig, RemoteProvider, make_remote_provider
from cairn.registry import Receipt
from tests.providers.remote.upstream import FakeUpstream

KEY = "sk-secret-stone-0123456789"


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    made = FakeUpstream()
    yield made
    made.stop()


@pytest.fixture
def receipts() -> list[Receipt]:
    return []


Remote = Callable[..., RemoteProvider]


@pytest.fixture
async def remote(
    upstream: FakeUpstream, receipts: list[Receipt], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Remote]:
    """Make providers over the upstream: `remote()`, `remote(kind="anthropic", first_token_seconds=0.2)`."""
    monkeypatch.setenv("STONE_KEY", KEY)
    made: list[RemoteProvider] = []

    async def save(receipt: Receipt) -> None:
        receipts.append(receipt)

    def build(model: str = "stone-1", **values: Any) -> RemoteProvider:
        config = ProviderConfig(**{"base_url": upstream.url, "key_env": "STONE_KEY", **values})
        made.append(make_remote_provider("quarry", config, model, save))
        return made[-1]

    yield build
    for each in made:
        await each.upstream.aclose()
