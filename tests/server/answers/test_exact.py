"""Exact repeats: what is given again, what never is, and that a repeat is as good an answer as the first."""

from typing import Any

import pytest

from cairn.core.chat import Principal
from cairn.registry import Registry
from cairn.server.answers import AnswerCache
from cairn.server.metrics import Metrics
from tests.server.conftest import REPLY, Running, Script, Serve

ASKED: dict[str, Any] = {
    "model": "scripted",
    "messages": [{"role": "user", "content": "hi"}],
    "temperature": 0,
    "max_tokens": 64,
}


@pytest.fixture
def scripted(script: Script) -> Any:
    return script()


@pytest.fixture
def server(serve: Serve, scripted: Any) -> Running:
    return serve(scripted, answer_cache_bytes=100_000)


def steps(scripted: Any) -> int:
    num: int = scripted.runner.num_steps
    return num


def test_the_same_is_computed_once(server: Running, scripted: Any, registry: Registry) -> None:
    client = server.client()
    first = client.chat.completions.create(**ASKED)
    num = steps(scripted)
    again = client.chat.completions.create(**ASKED)
    assert steps(scripted) == num
    assert again.choices == first.choices
    assert again.choices[0].message.content == REPLY
    assert again.usage is not None
    assert first.usage is not None
    assert again.usage.completion_tokens == first.usage.completion_tokens
    text = server.http().get("/metrics").text
    total = first.usage.total_tokens
    assert 'cairn_repeated_answers_total{model="scripted"} 1.0' in text
    assert f'cairn_saved_tokens_total{{model="scripted"}} {total:.1f}' in text
    receipts = {each.receipt_id: each for each in registry.receipts()}
    ids = [answer.model_dump()["cairn"]["receipt"] for answer in (first, again)]
    assert ids[0] != ids[1]
    assert receipts[ids[1]].outputs == receipts[ids[0]].outputs
    assert receipts[ids[1]].request["repeats"] == ids[0]


def test_a_stream_and_a_whole_answer_share_it(server: Running, scripted: Any) -> None:
    client = server.client()
    client.chat.completions.create(**ASKED)
    num = steps(scripted)
    chunks = list(client.chat.completions.create(**ASKED, stream=True))
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == REPLY
    assert steps(scripted) == num


def test_a_repeat_costs_nothing_and_is_counted(server: Running) -> None:
    client = server.client()
    for _ in range(3):
        client.chat.completions.create(**ASKED)
    total = server.http().get("/api/usage").json()["total"]
    usage = client.chat.completions.create(**ASKED).usage
    assert usage is not None
    assert total["requests"] == 3
    assert (total["prompt_tokens"], total["completion_tokens"]) == (
        usage.prompt_tokens,
        usage.completion_tokens,
    )


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 1.0},
        {"max_tokens": 63},
        {"messages": [{"role": "user", "content": "hi!"}]},
        {"stop": ["never"]},
        {"seed": 5},
    ],
)
def test_what_differs_is_computed(server: Running, scripted: Any, change: dict[str, Any]) -> None:
    client = server.client()
    client.chat.completions.create(**ASKED)
    num = steps(scripted)
    client.chat.completions.create(**{**ASKED, **change})
    assert steps(scripted) > num


def test_chance_is_never_repeated_and_a_seed_is(server: Running, scripted: Any) -> None:
    client, drawn = server.client(), {**ASKED, "temperature": 1.0}
    client.chat.completions.create(**drawn)
    num = steps(scripted)
    client.chat.completions.create(**drawn)
    assert steps(scripted) > num
    client.chat.completions.create(**drawn, seed=3)
    num = steps(scripted)
    client.chat.completions.create(**drawn, seed=3)
    assert steps(scripted) == num


def test_nobody_gets_anothers_answer(server: Running, scripted: Any) -> None:
    server.client().chat.completions.create(**ASKED)
    num = steps(scripted)
    key = server.state.identity.create_key("ada")
    answer = server.http(key).post("/v1/chat/completions", json=ASKED)
    assert answer.status_code == 200
    assert steps(scripted) > num


def test_another_artifact_under_the_name_answers_itself(server: Running, scripted: Any) -> None:
    client = server.client()
    client.chat.completions.create(**ASKED)
    num = steps(scripted)
    scripted.provider.artifact_digest = "sha256:" + "6d" * 32
    client.chat.completions.create(**ASKED)
    assert steps(scripted) > num


def test_an_answer_that_was_left_is_not_kept(server: Running, scripted: Any) -> None:
    client = server.client()
    scripted.runner.is_gated = True
    scripted.runner.gate.release(3)
    with client.chat.completions.create(**ASKED, stream=True) as stream:
        next(iter(stream))
    scripted.runner.is_gated = False
    scripted.runner.gate.release(1000)
    assert client.chat.completions.create(**ASKED).choices[0].message.content == REPLY


async def test_it_is_bounded_in_time_and_memory(registry: Registry, scripted: Any) -> None:
    from cairn.core.chat import ChatRequest, SamplingParams, text_message

    clock = [0.0]
    scripted.save = registry.save_receipt
    cache = AnswerCache(registry, Metrics(), max_bytes=20_000, seconds=10, now=lambda: clock[0])

    async def ask(text: str, place: int) -> int:
        before = steps(scripted)
        chat = ChatRequest(
            model="scripted",
            messages=(text_message("user", text),),
            sampling=SamplingParams(temperature=0, max_tokens=64),
            principal=Principal("ada"),
            request_id=f"rcpt_{place}",
        )
        async for _ in cache.stream(scripted.provider, chat):
            pass
        return steps(scripted) - before

    assert await ask("a", 0) > 0
    assert await ask("a", 1) == 0
    clock[0] = 10.0
    assert await ask("a", 2) > 0
    for place in range(3, 40):
        await ask(f"another {place}", place)
    assert cache._held.num_bytes <= 20_000
    assert await ask("a", 40) > 0


async def test_without_the_first_receipt_it_is_computed_anew(server: Running, scripted: Any) -> None:
    from sqlalchemy import text

    client = server.client()
    client.chat.completions.create(**ASKED)
    with server.state.registry.database.writing() as session:
        session.execute(text("DELETE FROM receipts"))
    num = steps(scripted)
    client.chat.completions.create(**ASKED)
    assert steps(scripted) > num


def test_without_room_nothing_is_kept(serve: Serve, scripted: Any) -> None:
    server = serve(scripted)
    assert server.state.answers is None
    client = server.client()
    client.chat.completions.create(**ASKED)
    num = steps(scripted)
    client.chat.completions.create(**ASKED)
    assert steps(scripted) > num
