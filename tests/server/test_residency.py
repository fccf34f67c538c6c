"""Two models and memory for one, over HTTP: loaded when asked for, told while it lasts, let go by hand."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from cairn.providers import loading
from cairn.providers.local import LocalProvider
from cairn.registry import Registry
from cairn.server import streaming
from cairn.server.config import ServerConfig
from cairn.server.models import ModelPool
from tests.providers.tiny_model import tiny_artifact
from tests.server.conftest import PATIENCE, Running, Serve

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "temperature": 0}
ONE = ServerConfig(kv_cache_bytes=4_000_000, memory_budget=5_000_000)


@pytest.fixture
def two(registry: Registry) -> tuple[str, str]:
    """Two models by their digests, `one` and `two`, the second the default."""
    one, other = (tiny_artifact(registry, name=name, seed=seed) for seed, name in enumerate(("one", "two")))
    return one.digest, other.digest


def states(server: Running) -> dict[str, str]:
    data = server.http().get("/v1/models").json()["data"]
    return {model["id"]: model["cairn"]["state"] for model in data}


def test_two_models_share_room_for_one(serve: Serve, registry: Registry, two: tuple[str, str]) -> None:
    server = serve(models=ModelPool(registry, ONE))
    server.wait_until(lambda: states(server) == {"one": "unloaded", "two": "loaded"})

    def ask(name: str) -> str:
        answer = server.client().chat.completions.create(model=name, stream=True, **ASK)
        return "".join(str(chunk.system_fingerprint) for chunk in answer)

    with ThreadPoolExecutor(6) as clients:
        prints = list(clients.map(ask, ["one", "two", "one"] * 4))
    assert {two[0][7:19], two[1][7:19]} == {text.split("cairn_")[1] for text in prints}
    assert sorted(states(server).values()) == ["loaded", "unloaded"]
    memory = server.http().get("/api/models/memory").json()
    assert memory["budget"] == 5_000_000
    assert 4_000_000 <= memory["held"] <= 5_000_000
    (resident,) = (model for model in memory["models"] if model["state"] == "loaded")
    assert resident["resident_bytes"] == memory["held"]
    assert 0 <= time.time() - resident["last_used"] < PATIENCE
    (other,) = (model for model in memory["models"] if model["state"] == "unloaded")
    assert (other["resident_bytes"], other["last_used"], other["num_requests"]) == (0, None, 0)
    metrics = server.http().get("/metrics").text
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    assert float(values["cairn_models_memory_bytes"]) == memory["held"]
    loads, left = (
        float(values[f"cairn_model_{what}"]) for what in ('loads{outcome="ok"}', 'departures{reason="room"}')
    )
    assert loads == left + 1


def test_models_are_loaded_and_let_go_by_hand(serve: Serve, registry: Registry, two: tuple[str, str]) -> None:
    server = serve(models=ModelPool(registry, ONE))
    server.wait_until(lambda: states(server)["two"] == "loaded")
    http = server.http()
    assert http.post("/api/models/unload", json={"model": "two"}).json()["cairn"]["state"] == "unloaded"
    loaded = http.post("/api/models/load", json={"model": "one"}).json()
    assert loaded["id"] == "one"
    assert loaded["cairn"]["state"] == "loaded"
    assert loaded["cairn"]["resident_bytes"] > 4_000_000
    assert http.post("/api/models/load", json={"model": "three"}).status_code == 404
    for verb in ("load", "unload"):  # a digest is no name that is listed
        assert http.post(f"/api/models/{verb}", json={"model": two[1]}).status_code == 404
    assert states(server) == {"one": "loaded", "two": "unloaded"}
    user = server.http(server.state.identity.create_key("ada"))
    assert user.get("/api/models/memory").status_code == 200
    for verb in ("load", "unload"):
        refused = user.post(f"/api/models/{verb}", json={"model": "one"})
        assert refused.status_code == 403
        assert refused.json()["error"]["code"] == "auth.forbidden"


def test_what_is_too_large_is_refused_with_numbers(
    serve: Serve, registry: Registry, two: tuple[str, str]
) -> None:
    pool = ModelPool(registry, ONE.model_copy(update={"kv_cache_bytes": 6_000_000}))
    server = serve(models=pool)
    server.wait_until(lambda: "models may take 5 MB here" in pool.problem())
    with pytest.raises(openai.InternalServerError, match=r"one needs 6 MB \(weights .*--memory") as caught:
        server.client().chat.completions.create(model="one", **ASK)
    assert caught.value.status_code == 507
    assert caught.value.code == "model.no_room"


def test_a_stream_is_kept_alive_while_its_model_loads(
    serve: Serve, registry: Registry, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    load_now = loading.load_local_provider

    def load_later(*arguments: Any, **options: Any) -> LocalProvider:
        with options["progress"].task("laying stones", 4) as task:
            task.advance()
            assert gate.wait(PATIENCE)
        return load_now(*arguments, **options)

    monkeypatch.setattr(loading, "load_local_provider", load_later)
    monkeypatch.setattr(streaming, "_FIRST_EVENT_SECONDS", 0.01)
    pool = ModelPool(registry, ONE)
    server = serve(models=pool)
    server.wait_until(lambda: "loading two: laying stones: 25%" in pool.problem())
    unready = server.http().get("/readyz")
    assert unready.status_code == 503
    assert "laying stones" in unready.json()["reason"]
    assert states(server) == {"one": "unloaded", "two": "loading"}
    body = {"model": "two", "stream": True, **ASK}
    with server.http().stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": still working"
        memory = server.http().get("/api/models/memory").json()["models"]
        (coming,) = (model for model in memory if model["state"] == "loading")
        assert coming["name"] == "two"
        assert coming["num_requests"] >= 1
        assert coming["loading"].startswith("laying stones: 25%")
        gate.set()
        rest = list(lines)
    assert rest[-2] == "data: [DONE]"
    assert server.http().get("/readyz").status_code == 200
