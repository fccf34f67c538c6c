"""Adapters over HTTP: addressed as models, loaded on demand and by hand, named in receipts that replay."""

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest
import torch

from cairn.models.adapters import CONFIG_NAME, WEIGHTS_NAME
from cairn.models.checkpoint import load_decoder
from cairn.providers import load_local_provider
from cairn.providers.exporting import export_model
from cairn.providers.importing import import_checkpoint
from cairn.providers.residency import NoRoomError
from cairn.registry import Registry
from cairn.server.config import ServerConfig
from cairn.server.models import ModelPool
from tests.engine.tiny_adapters import SPLIT, save_adapter
from tests.providers.tiny_model import tiny_artifact
from tests.server.conftest import Running, Serve

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 12, "temperature": 0}


@pytest.fixture
def adapters(registry: Registry) -> list[Path]:
    """Folders of two adapters of the model `tiny`, which is there."""
    base = load_decoder(tiny_artifact(registry).folder, dtype=torch.float32)
    return [save_adapter(base, SPLIT, seed=seed, r=4, lora_alpha=64) for seed in range(2)]


def _ask(server: Running, model: str) -> Any:
    return server.client().chat.completions.create(model=model, **ASK)


def test_adapters_are_models_of_their_own(
    serve: Serve, pool: ModelPool, registry: Registry, adapters: list[Path]
) -> None:
    digests = {
        name: import_checkpoint(registry, folder, name=name, base="tiny").digest
        for name, folder in zip(("first", "second"), adapters, strict=True)
    }
    base = registry.get("tiny").digest
    server = serve(models=pool)
    models = {model.id: model.model_dump() for model in server.client().models.list()}
    assert set(models) == {"tiny", "first", "second"}
    assert models["tiny"]["parent"] is None
    assert models["first"]["parent"] == "tiny"
    assert models["first"]["root"] == digests["first"]
    answers = {name: _ask(server, name) for name in models}
    assert len({answer.choices[0].message.content for answer in answers.values()}) == 3
    assert len({answer.system_fingerprint for answer in answers.values()}) == 3
    assert len(pool.loaded()) == 1, "all on one engine"
    for name, answer in answers.items():
        receipt = registry.receipt(answer.model_extra["cairn"]["receipt"])
        assert receipt.artifact == base
        assert receipt.adapter == digests.get(name, "")
        provider = load_local_provider(registry, receipt.adapter or receipt.artifact)
        try:
            assert asyncio.run(provider.replay(receipt)).is_same
        finally:
            provider.close()
    shown = server.http().get(f"/api/receipts/{answers['first'].model_extra['cairn']['receipt']}").json()
    assert shown["adapter"] == digests["first"]


def test_what_was_imported_comes_out_as_peft_reads_it(
    registry: Registry, adapters: list[Path], tmp_path: Path
) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    import_checkpoint(registry, adapters[0], name="mine", base="tiny")
    export_model(registry, "mine", tmp_path / "out")
    base: Any = AutoModelForCausalLM.from_pretrained(registry.get("tiny").folder, dtype=torch.float32)
    opened = PeftModel.from_pretrained(base, tmp_path / "out").state_dict()
    for name, tensor in load_file(adapters[0] / WEIGHTS_NAME).items():
        assert torch.equal(opened[name.replace(".weight", ".default.weight")], tensor)


def test_loading_and_unloading_by_hand(serve: Serve, pool: ModelPool, adapters: list[Path]) -> None:
    server = serve(models=pool)
    http = server.http()
    alone = _ask(server, "tiny").choices[0].message.content
    body = {"lora_name": "mine", "lora_path": str(adapters[0]), "base_model": "tiny"}
    loaded = http.post("/v1/load_lora_adapter", json=body).json()
    assert (loaded["id"], loaded["parent"], loaded["cairn"]["state"]) == ("mine", "tiny", "loaded")
    assert loaded["cairn"]["resident_bytes"] > 0
    first = _ask(server, "mine").choices[0].message.content
    assert first != alone
    assert http.post("/v1/load_lora_adapter", json=body).status_code == 409
    other = body | {"lora_path": str(adapters[1]), "load_inplace": True}
    assert http.post("/v1/load_lora_adapter", json=other).status_code == 200
    assert _ask(server, "mine").choices[0].message.content not in (first, alone)
    assert http.post("/v1/load_lora_adapter", json=other | {"lora_name": "tiny"}).status_code == 409
    assert http.post("/v1/unload_lora_adapter", json={"lora_name": "mine"}).status_code == 200
    with pytest.raises(openai.NotFoundError):
        _ask(server, "mine")
    assert http.post("/v1/unload_lora_adapter", json={"lora_name": "mine"}).status_code == 404
    assert http.post("/v1/unload_lora_adapter", json={"lora_name": "tiny"}).status_code == 404
    assert _ask(server, "tiny").choices[0].message.content == alone


async def test_adapters_are_within_the_budget_of_all_models(registry: Registry, adapters: list[Path]) -> None:
    names = ["first", "second"]
    for name, folder in zip(names, adapters, strict=True):
        import_checkpoint(registry, folder, name=name, base="tiny")
    cache = 1 << 20
    pool = ModelPool(registry, ServerConfig(kv_cache_bytes=cache))
    await pool.load("tiny")
    base = pool.memory().held
    await pool.load("first")
    size = pool.memory().held - base
    assert size > 0
    await pool.close()

    def loaded() -> list[str]:
        return [model.name for model in pool.served() if model.name in names and model.state == "loaded"]

    pool = ModelPool(registry, ServerConfig(kv_cache_bytes=cache, memory_budget=base + size * 3 // 2))
    async with pool.use("first"):
        with pytest.raises(NoRoomError, match="and what it has loaded take"):
            await pool.load("second")
        assert loaded() == ["first"]
    await pool.load("second")
    assert loaded() == ["second"], "nobody used the first"
    assert pool.memory().held == base + size
    await pool.close()
    pool = ModelPool(registry, ServerConfig(kv_cache_bytes=cache, memory_budget=base + size // 2))
    with pytest.raises(NoRoomError):
        await pool.load("first")
    assert not loaded()
    assert pool.memory().held == base
    await pool.close()


def test_who_may_not_and_what_does_not_fit_is_refused(
    serve: Serve, pool: ModelPool, registry: Registry, adapters: list[Path]
) -> None:
    server = serve(models=pool)
    user = server.http(server.state.identity.create_key("ada"))
    body = {"lora_name": "mine", "lora_path": str(adapters[0]), "base_model": "tiny"}
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
        assert user.post(path, json=body if "/load" in path else {"lora_name": "x"}).status_code == 403
    values = json.loads((adapters[0] / CONFIG_NAME).read_text())
    (adapters[0] / CONFIG_NAME).write_text(json.dumps(values | {"r": 5}))
    answer = server.http().post("/v1/load_lora_adapter", json=body)
    assert answer.status_code >= 400
    assert "expected [5, 32]" in answer.json()["error"]["message"]
    missing = server.http().post("/v1/load_lora_adapter", json=body | {"base_model": "nobody"})
    assert missing.status_code == 404
    assert registry.artifacts("adapter") == []
    assert [model.id for model in server.client().models.list()] == ["tiny"]
