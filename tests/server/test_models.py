"""The pool of models: loaded when asked for, followed by name, let go when idle, refused with reason."""

from typing import Any
from unittest.mock import Mock

import openai
import pytest

from cairn.core.errors import CairnError, NotFoundError
from cairn.registry import Registry
from cairn.server.config import ServerConfig
from cairn.server.models import ModelPool
from tests.providers.scripted import tiny_tokenizer
from tests.providers.tiny_model import tiny_artifact
from tests.server.conftest import Running, Serve

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "temperature": 0}


async def test_models_come_and_go(registry: Registry) -> None:
    pool = ModelPool(registry, ServerConfig(kv_cache_bytes=4_000_000, memory_budget=5_000_000))
    first, second = (tiny_artifact(registry, name=name, seed=seed) for name, seed in (("one", 1), ("two", 2)))
    async with pool.use("one") as one:
        assert one.artifact_digest == first.digest
        async with pool.use("one:latest") as again:
            assert again is one
    async with pool.use("two") as two:
        assert two.artifact_digest == second.digest
        assert pool.loaded() == [two]
    third = tiny_artifact(registry, name="one", seed=3)
    async with pool.use("one") as moved:
        assert moved.artifact_digest == third.digest
        assert pool.loaded() == [moved]
    assert pool.memory().departures == {"room": 2}
    await pool.close()
    assert pool.loaded() == []


async def test_a_name_is_looked_up_again_once_any_process_has_moved_one(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ModelPool(registry, ServerConfig(kv_cache_bytes=4_000_000))
    tiny_artifact(registry, name="one", seed=1)
    other = tiny_artifact(registry, name="two", seed=2)
    look_up = Mock(wraps=registry.get)
    async with pool.use("one"):
        monkeypatch.setattr(registry, "get", look_up)
    for _ in range(3):
        async with pool.use("one"):
            pass
    look_up.assert_not_called()
    with Registry.open(registry.settings) as elsewhere:
        elsewhere.set_alias("one", other.digest)
        async with pool.use("one") as moved:
            assert moved.artifact_digest == other.digest
        elsewhere.remove_alias("one")
        with pytest.raises(NotFoundError, match="no model 'one'"):
            async with pool.use("one"):
                pass
    await pool.close()


def test_a_moved_name_is_served_without_a_restart(serve: Serve, pool: ModelPool, registry: Registry) -> None:
    first = tiny_artifact(registry, name="assistant", seed=1)
    server = serve(models=pool)
    client = server.client()
    prints = [client.chat.completions.create(model="assistant", **ASK).system_fingerprint]
    second = tiny_artifact(registry, name="assistant", seed=2)
    prints.append(client.chat.completions.create(model="assistant", **ASK).system_fingerprint)
    assert prints == [f"cairn_{digest[7:19]}" for digest in (first.digest, second.digest)]
    assert [model.id for model in client.models.list()] == ["assistant"]


def test_without_a_model_the_server_says_what_to_do(
    serve: Serve, pool: ModelPool, registry: Registry
) -> None:
    server = serve(models=pool)
    server.wait_until(lambda: "no model" in pool.problem())
    assert server.http().get("/readyz").status_code == 503
    with pytest.raises(openai.NotFoundError, match="cairn build") as caught:
        server.client().chat.completions.create(model="assistant", **ASK)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    tiny_artifact(registry)
    assert server.http().get("/readyz").status_code == 200
    assert server.client().chat.completions.create(model="tiny", **ASK).choices


def test_a_model_that_cannot_be_served_is_a_problem_not_a_crash(
    serve: Serve, pool: ModelPool, registry: Registry
) -> None:
    tiny_artifact(registry, generation={"eos_token_id": tiny_tokenizer().eos_token_id})
    server = serve(models=pool)
    server.wait_until(lambda: "chat template ends" in pool.problem())
    with pytest.raises(openai.BadRequestError, match="replies would not end"):
        server.client().chat.completions.create(model="tiny", **ASK)
    assert server.http().get("/healthz").status_code == 200


def test_what_is_no_model_is_not_served(serve: Serve, pool: ModelPool, registry: Registry) -> None:
    for kind, name in (("corpus", "books"), ("model", "pictures")):
        with registry.create(kind) as writer:
            (writer.folder / "a").write_text("a")
        registry.set_alias(name, writer.artifact.digest)
    server: Running = serve(models=pool)
    assert server.http().get("/v1/models").json()["data"] == []
    for name in ("books", "pictures", "no such name!", "sha256:" + "0" * 64):
        with pytest.raises(openai.NotFoundError):
            server.client().chat.completions.create(model=name, **ASK)


async def test_the_default_comes_first(registry: Registry) -> None:
    for seed, name in enumerate(("a", "b", "c"), 1):
        tiny_artifact(registry, name=name, seed=seed)
    pool = ModelPool(registry, ServerConfig(), names=["b"])
    assert [model.name for model in pool.served()] == ["b", "c", "a"]
    with pytest.raises(CairnError):
        ModelPool(registry, ServerConfig(), names=["nothing"]).served()
