"""Routes through the real server and the official client, before real upstreams that behave and misbehave."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from cairn.registry import Registry
from tests.providers.remote.upstream import (
    FakeUpstream,
    hang,
    raw,
    speak,
    streamed,
    text_chunk,
    whole,
)
from tests.server.conftest import REPLY, Running, Script, Serve

KEY = "sk-secret-stone-0123456789"
Upstreams = Callable[[], FakeUpstream]


@pytest.fixture
def upstreams() -> Iterator[Upstreams]:
    made: list[FakeUpstream] = []

    def build() -> FakeUpstream:
        made.append(FakeUpstream())
        return made[-1]

    yield build
    for each in made:
        each.stop()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STONE_KEY", KEY)


def write(registry: Registry, text: str) -> Path:
    path = registry.settings.home / "routes.toml"
    path.write_text(text)
    return path


def providers(**upstreams: FakeUpstream) -> str:
    return "\n".join(
        f'[providers.{name}]\nbase_url = "{each.url}"\nkey_env = "STONE_KEY"\nfirst_token_seconds = 2\n'
        f"whole_seconds = 2\nbetween_tokens_seconds = 2"
        for name, each in upstreams.items()
    )


def ask(server: Running, model: str = "way", **values: Any) -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **values}
    return server.http().post("/v1/chat/completions", json=body)


def test_a_route_to_another_server(registry: Registry, serve: Serve, upstreams: Upstreams) -> None:
    quarry = upstreams()
    write(
        registry,
        providers(quarry=quarry) + '\n[routes.way]\ntargets = [{ provider = "quarry", model = "s" }]',
    )
    server = serve()
    answer = ask(server)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "stones mark"
    assert answer.headers["x-cairn-target"] == "quarry/s"
    receipt = answer.headers["x-cairn-receipt"]
    assert answer.json()["cairn"] == {"receipt": receipt, "target": "quarry/s"}
    assert answer.json()["usage"]["prompt_tokens"] == 7
    stored = registry.receipt(receipt)
    assert (stored.model, stored.request["target"], stored.user_id) == ("way", "quarry/s", "admin")
    assert KEY not in json.dumps(stored.request)
    assert not {"temperature", "stream", "user"} & quarry.asked[0].body.keys()


def test_the_official_client_streams_through_it(
    registry: Registry, serve: Serve, upstreams: Upstreams
) -> None:
    quarry = upstreams()
    write(
        registry,
        providers(quarry=quarry) + '\n[routes.way]\ntargets = [{ provider = "quarry", model = "s" }]',
    )
    client = serve().client()
    with client.chat.completions.with_streaming_response.create(
        model="way", messages=[{"role": "user", "content": "hi"}], stream=True
    ) as raw_answer:
        assert raw_answer.headers["x-cairn-target"] == "quarry/s"
        text = "".join(chunk.choices[0].delta.content or "" for chunk in raw_answer.parse() if chunk.choices)
    assert text == "stones mark"
    assert quarry.asked[0].body["stream"] is True
    assert "way" in [model.id for model in client.models.list()]
    whole_text = client.completions.with_raw_response.create(model="way", prompt="a")
    assert whole_text.headers["x-cairn-target"] == "quarry/s"


@pytest.mark.parametrize(
    "behave",
    [
        hang,
        raw(b""),
        raw(b"nonsense\r\n\r\n"),
        whole(b"not json"),
        whole({"error": {"message": "broken"}}, 500),
        whole({"error": {"message": "slow down"}}, 429, {"retry-after": "9"}),
        whole({"error": {"message": "no key"}}, 401),
        streamed([], is_done=False, is_cut=True),
    ],
)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_whatever_the_first_does_the_second_answers(
    registry: Registry, serve: Serve, script: Script, upstreams: Upstreams, behave: Any, is_streamed: bool
) -> None:
    bad = upstreams()
    bad.behave = behave
    text = providers(bad=bad).replace("_seconds = 2", "_seconds = 0.2")
    write(
        registry,
        text + '\n[routes.way]\ntargets = [{ provider = "bad", model = "s" }, { model = "scripted" }]',
    )
    answer = ask(serve(script()), stream=is_streamed)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-cairn-target"] == "local/scripted"
    assert len(bad.asked) == 1
    if not is_streamed:
        assert answer.json()["choices"][0]["message"]["content"] == REPLY
        assert registry.receipt(answer.json()["cairn"]["receipt"]).request["target"] == "local/scripted"


def test_a_stream_that_breaks_says_so_and_is_not_begun_again(
    registry: Registry, serve: Serve, script: Script, upstreams: Upstreams
) -> None:
    bad = upstreams()
    bad.behave = streamed([text_chunk("half")], is_done=False, is_cut=True)
    write(
        registry,
        providers(bad=bad)
        + '\n[routes.way]\ntargets = [{ provider = "bad", model = "s" }, { model = "scripted" }]',
    )
    answer = ask(serve(script()), stream=True)
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert [event["choices"][0]["delta"].get("content") for event in events[:2]] == ["", "half"]
    assert events[-1]["error"]["code"] == "upstream.unavailable"
    assert "[DONE]" not in answer.text


def test_what_the_client_is_told_when_nobody_answers(
    registry: Registry, serve: Serve, upstreams: Upstreams, caplog: pytest.LogCaptureFixture
) -> None:
    bad = upstreams()
    write(
        registry,
        providers(bad=bad) + '\n[routes.way]\nattempts = 1\ntargets = [{ provider = "bad", model = "s" }]\n'
        "[breaker]\nfailures = 100",
    )
    server = serve()
    with caplog.at_level(logging.DEBUG):
        bad.behave = whole({"error": {"message": "temperature is odd"}}, 400)
        wrong = ask(server)
        assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "invalid_request_error")
        assert "temperature is odd" in wrong.json()["error"]["message"]
        bad.behave = whole({"error": {"message": f"wrong key {KEY}"}}, 401)
        refused = ask(server)
        assert refused.status_code == 502
        bad.behave = whole({}, 429, {"retry-after": "30"})
        full = ask(server)
        assert (full.status_code, full.headers["retry-after"]) == (429, "30")
        resting = ask(server)
        assert (resting.status_code, resting.json()["error"]["code"]) == (503, "route.no_target")
        assert int(resting.headers["retry-after"]) <= 30
    assert KEY not in caplog.text + wrong.text + refused.text + full.text


def test_the_file_is_followed_without_a_restart(
    registry: Registry, serve: Serve, script: Script, upstreams: Upstreams
) -> None:
    quarry = upstreams()
    server = serve(script())
    assert ask(server).status_code == 404
    good = providers(quarry=quarry) + '\n[routes.way]\ntargets = [{ provider = "quarry", model = "s" }]'
    path = write(registry, good)
    server.wait_until(lambda: ask(server).status_code == 200)
    path.write_text(good + "\n[routes.broken")
    server.wait_until(lambda: bool(server.state.routes.problem))
    assert ask(server).headers["x-cairn-target"] == "quarry/s", "the routes before stay"
    assert "line 9" in server.state.routes.problem
    assert "routes" in server.http("").get("/readyz").json()["warning"]
    path.write_text('[routes.way]\ntargets = [{ model = "scripted" }]')
    server.wait_until(lambda: ask(server).headers.get("x-cairn-target") == "local/scripted")
    assert not server.state.routes.problem
    path.unlink()
    server.wait_until(lambda: ask(server).status_code == 404)


def test_a_route_may_have_its_model_s_name(registry: Registry, serve: Serve, script: Script) -> None:
    write(registry, '[routes.scripted]\ntargets = [{ model = "scripted" }]')
    server = serve(script())
    assert ask(server, "scripted").headers["x-cairn-target"] == "local/scripted"
    assert [model["id"] for model in server.http().get("/v1/models").json()["data"]] == ["scripted"]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_the_other_apis_go_the_same_way(
    registry: Registry, serve: Serve, upstreams: Upstreams, is_streamed: bool
) -> None:
    bad, good = upstreams(), upstreams()
    bad.behave = whole({}, 500)
    targets = '{ provider = "bad", model = "s" }, { provider = "good", model = "s" }'
    write(registry, providers(bad=bad, good=good) + f"\n[routes.way]\ntargets = [{targets}]")
    client = serve().http()
    ours = {"model": "way", "stream": is_streamed}
    theirs = ours | {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    for path, body in (("/v1/messages", theirs), ("/v1/responses", ours | {"input": "hi"})):
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-cairn-target"] == "good/s"
        assert "stones" in answer.text
        assert registry.receipt(answer.headers["x-cairn-receipt"]).request["target"] == "good/s"
    assert not {"temperature", "top_p", "top_k"} & good.asked[0].body.keys()


def test_embeddings_by_a_route(registry: Registry, serve: Serve, upstreams: Upstreams) -> None:
    bad, good = upstreams(), upstreams()
    bad.behave = whole({}, 500)
    good.behave = whole({"data": [{"index": 0, "embedding": [0.5, 1.0]}], "usage": {"prompt_tokens": 2}})
    write(
        registry,
        providers(bad=bad, good=good)
        + '\n[routes.v]\ntargets = [{ provider = "bad", model = "e" }, { provider = "good", model = "e" }]',
    )
    found = (
        serve().client().embeddings.with_raw_response.create(model="v", input="a", encoding_format="float")
    )
    assert found.parse().data[0].embedding == [0.5, 1.0]
    assert found.headers["x-cairn-target"] == "good/e"


def test_a_leaving_client_ends_the_upstream_s_request(
    registry: Registry, serve: Serve, upstreams: Upstreams
) -> None:
    quarry = upstreams()
    quarry.behave = hang
    write(
        registry,
        providers(quarry=quarry).replace("_seconds = 2", "_seconds = 60")
        + '\n[routes.way]\ntargets = [{ provider = "quarry", model = "s" }]',
    )
    server = serve()
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=0.2)
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="way", messages=[{"role": "user", "content": "hi"}])
    client.close()
    server.wait_until(lambda: quarry.num_open == 0)
    server.wait_until(lambda: server.state.routes.target("quarry/s").outstanding == 0)
    quarry.behave = speak
    assert ask(server).status_code == 200
