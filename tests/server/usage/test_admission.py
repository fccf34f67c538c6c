"""Every request over HTTP leaves its row, whatever becomes of it, and is held to limits and budgets."""

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from cairn.engine import EngineConfig
from cairn.engine.runner import Logits, ModelInput
from cairn.registry import Registry
from cairn.server.usage.rules import Rule, set_rules
from cairn.server.usage.tables import UsageRow
from tests.server.conftest import REPLY, Running, Script, Serve
from tests.server.usage.conftest import rows, rule

ASK: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "which way?"}]}
PRICES = """
currency = "EUR"
[models.scripted]
prompt = 1.0
completion = 4.0
"""


def stored(server: Running, registry: Registry) -> list[UsageRow]:
    """All rows, in the order of their times."""
    server.wait_until(lambda: server.state.in_flight.num == 0)
    server.state.metering.ledger.flush()
    return sorted(rows(registry), key=lambda row: row.at)


def hold(server: Running, registry: Registry, *rules: Rule) -> None:
    set_rules(registry, rules, "test")
    server.state.metering.outdate()


@pytest.fixture
def priced(registry: Registry) -> None:
    (registry.settings.home / "prices.toml").write_text(PRICES)


@pytest.mark.usefixtures("priced")
def test_a_row_says_what_was_used(server: Running, registry: Registry) -> None:
    got = server.client().chat.completions.create(**ASK)
    assert got.usage is not None
    (row,) = stored(server, registry)
    assert (row.prompt_tokens, row.completion_tokens) == (
        got.usage.prompt_tokens,
        got.usage.completion_tokens,
    )
    assert row.cost == row.prompt_tokens + 4 * row.completion_tokens
    assert (row.currency, row.prompt_price, row.completion_price) == ("EUR", 1_000_000, 4_000_000)
    assert (row.user_id, row.model, row.target) == ("admin", "scripted", "scripted")
    assert (row.endpoint, row.outcome, row.num_requests) == ("/v1/chat/completions", "ok", 1)
    assert row.key_id == server.key.split("_")[1]
    assert row.receipt_id == getattr(got, "cairn")["receipt"]  # noqa: B009 (not in OpenAI's types)
    assert row.first_token_seconds is not None
    assert 0 < row.first_token_seconds <= row.seconds


def ask_of(rng: random.Random) -> tuple[bool, dict[str, Any], int | None]:
    """Chat or plain, the body, and after how many pieces the client leaves."""
    is_chat, is_stream = rng.random() < 0.5, rng.random() < 0.7
    body: dict[str, Any] = {"model": "scripted", "max_tokens": rng.randrange(1, 30), "n": rng.choice([1, 2])}
    text = "stone " * rng.randrange(1, 20)
    if is_chat:
        body["messages"] = [{"role": "user", "content": text}]
    else:
        body["prompt"] = [text, "and"] if rng.random() < 0.3 else text
    if is_stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return is_chat, body, rng.randrange(1, 5) if is_stream and rng.random() < 0.4 else None


def test_the_sum_is_what_many_clients_counted(serve: Serve, script: Script, registry: Registry) -> None:
    rng = random.Random("many clients")
    server = serve(script(config=EngineConfig(max_num_seqs=16)))
    client = server.client()
    asks = [ask_of(rng) for _ in range(80)]
    told: dict[str, tuple[int, int]] = {}
    left: set[str] = set()

    def ask(is_chat: bool, body: dict[str, Any], leaves: int | None) -> None:
        create: Any = client.chat.completions.create if is_chat else client.completions.create
        got = create(**body)
        if "stream" not in body:
            first = got.cairn["receipt"]
            told[first] = (got.usage.prompt_tokens, got.usage.completion_tokens)
            return
        first = got.response.headers["x-cairn-receipt"].split(",")[0]
        num = 0
        with got:
            for chunk in got:
                if chunk.usage is not None:
                    told[first] = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                num += 1
                if num == leaves:
                    left.add(first)
                    break

    with ThreadPoolExecutor(len(asks)) as clients:
        list(clients.map(ask, *zip(*asks, strict=True)))
    found = {row.receipt_id: row for row in stored(server, registry)}
    assert len(found) == len(asks)
    assert left
    for receipt_id, row in found.items():
        if receipt_id in told:
            assert (row.prompt_tokens, row.completion_tokens) == told[receipt_id]
        if receipt_id not in left:
            assert row.outcome == "ok", (row.endpoint, row.code, row.completion_tokens, receipt_id in told)
    counted = (
        sum(row.prompt_tokens for row in found.values()),
        sum(row.completion_tokens for row in found.values()),
    )

    def by_receipts() -> tuple[int, int]:
        receipts = registry.receipts(1000)
        return (
            sum(len(each.prompt_token_ids) for each in receipts),
            sum(len(tokens) for each in receipts for tokens in each.outputs),
        )

    # Of streams that were cut, what was computed is what the receipts say, the last of which may come later.
    server.wait_until(lambda: by_receipts() == counted)


def test_a_client_that_leaves(serve: Serve, script: Script, registry: Registry) -> None:
    scripted = script()
    server = serve(scripted)
    scripted.runner.is_gated = True
    with server.http().stream("POST", "/v1/chat/completions", json=ASK | {"stream": True}) as response:
        lines = response.iter_lines()
        scripted.runner.gate.release(3)
        next(line for line in lines if line.startswith("data:"))  # a token was computed
    scripted.runner.is_gated = False
    scripted.runner.gate.release(5)
    (row,) = stored(server, registry)
    server.wait_until(lambda: bool(registry.receipts(5)))  # it may come after the row
    (receipt,) = registry.receipts(5)
    assert row.outcome == "aborted"
    assert row.prompt_tokens == len(receipt.prompt_token_ids)
    assert row.completion_tokens == len(receipt.outputs[0]) > 0


def test_a_step_that_fails(
    serve: Serve, script: Script, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = script()
    run: Callable[[ModelInput], Logits] = scripted.runner.run

    def fail_in_the_midst(model_input: ModelInput) -> Logits:
        if scripted.runner.num_steps == 4:
            scripted.runner.num_steps += 1
            raise RuntimeError("the runner broke")
        return run(model_input)

    monkeypatch.setattr(scripted.runner, "run", fail_in_the_midst)
    server = serve(scripted)
    with pytest.raises(openai.InternalServerError):
        server.client().chat.completions.create(**ASK)
    (row,) = stored(server, registry)
    assert (row.outcome, row.completion_tokens) == ("failed", 4)
    assert row.code


def test_what_never_came_to_use_leaves_no_tokens(server: Running, registry: Registry) -> None:
    http = server.http()
    assert http.post("/v1/chat/completions", json=ASK | {"model": "none"}).status_code == 404
    assert http.post("/v1/chat/completions", json={"model": "scripted"}).status_code == 400
    (row,) = stored(server, registry)
    assert (row.model, row.outcome, row.code, row.prompt_tokens) == ("none", "failed", "not_found", 0)


def test_requests_in_a_minute(server: Running, registry: Registry) -> None:
    hold(
        server, registry, rule("user", "*", "requests", "minute", 2), rule("all", "", "tokens", "day", 10**6)
    )
    client = server.client()
    for left in (1, 0):
        got = client.chat.completions.with_raw_response.create(**ASK)
        assert got.headers["x-ratelimit-limit-requests"] == "2"
        assert got.headers["x-ratelimit-remaining-requests"] == str(left)
        assert got.headers["x-ratelimit-reset-requests"]
        assert got.headers["x-ratelimit-limit-tokens"] == "1000000"
    for _ in range(3):
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(**ASK)
    assert caught.value.code == "rate_limit_exceeded"
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert "user admin: 2 of 2 requests per minute are used" in caught.value.message
    found = stored(server, registry)
    assert sum(row.num_requests for row in found if row.outcome == "refused") == 3
    assert sum(row.num_requests for row in found if row.outcome == "ok") == 2
    assert server.state.metering._running == {}


def test_tokens_are_put_right_afterwards(server: Running, registry: Registry) -> None:
    hold(server, registry, rule("all", "", "tokens", "hour", 1200))
    # Each is taken to write 1,024 tokens, so the second passes only because the first did not.
    for _ in range(3):
        server.client().chat.completions.create(**ASK)
    used = sum(row.prompt_tokens + row.completion_tokens for row in stored(server, registry))
    (limit,) = server.http().get("/api/limits").json()["data"]
    assert limit["standing"]["used"] == used
    with pytest.raises(openai.RateLimitError, match="this request may take"):
        server.client().chat.completions.create(**ASK, max_tokens=1201)


def test_requests_at_a_time(serve: Serve, script: Script, registry: Registry) -> None:
    scripted = script()
    server = serve(scripted)
    hold(server, registry, rule("user", "admin", "concurrent", "", 1))
    scripted.runner.is_gated = True
    with server.http().stream("POST", "/v1/chat/completions", json=ASK | {"stream": True}) as response:
        with pytest.raises(openai.RateLimitError, match="1 of 1 requests are under way"):
            server.client().chat.completions.create(**ASK)
        assert server.http().get("/api/limits").json()["data"][0]["standing"]["used"] == 1
        scripted.runner.is_gated = False
        scripted.runner.gate.release(5)
        response.read()
    server.wait_until(lambda: server.state.in_flight.num == 0)
    server.client().chat.completions.create(**ASK)


@pytest.mark.usefixtures("priced")
def test_a_budget_stops_and_another_warns(server: Running, registry: Registry) -> None:
    client = server.client()
    body = ASK | {"max_tokens": 5}
    client.chat.completions.create(**body)
    cost = stored(server, registry)[0].cost
    hold(
        server,
        registry,
        rule("user", "admin", "money", "day", 2 * cost + 50),
        rule("user", "admin", "money", "month", cost + 1, action="warn"),
    )
    got = client.chat.completions.with_raw_response.create(**body)
    assert "x-cairn-budget-warning" not in got.headers
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(**ASK, max_tokens=50)
    assert caught.value.code == "insufficient_quota"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert int(caught.value.response.headers["retry-after"]) <= 86400
    hold(server, registry, rule("user", "admin", "money", "day", 10**9))
    got = client.chat.completions.with_raw_response.create(**body)
    assert "user admin has spent" in got.headers["x-cairn-budget-warning"]
    stored(server, registry)
    assert [each.action for each in registry.audit.entries() if each.actor == "cairn"] == ["budget.warn"]


def test_a_budget_holds_with_many_clients(serve: Serve, script: Script, registry: Registry) -> None:
    (registry.settings.home / "prices.toml").write_text(PRICES)
    server = serve(script(config=EngineConfig(max_num_seqs=16)))
    hold(server, registry, rule("user", "admin", "money", "total", 2000))
    client = server.client()

    def outcome(_: int) -> str:
        try:
            client.chat.completions.create(**ASK, max_tokens=100)
        except openai.RateLimitError as error:
            return str(error.code)
        return "ok"

    with ThreadPoolExecutor(60) as clients:
        outcomes = set(clients.map(outcome, range(60)))
    found = stored(server, registry)
    assert sum(row.cost for row in found) <= 2000
    assert outcomes == {"ok", "insufficient_quota"}
    assert sum(row.num_requests for row in found) == 60


def test_what_cannot_be_counted_is_not_answered(
    server: Running, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.state.metering.ledger, "_most_waiting", 0)
    refused = server.http().post("/v1/chat/completions", json=ASK)
    assert refused.status_code == 503
    assert "waits for the database" in refused.json()["error"]["message"]
    assert registry.receipts(1) == []


def test_prices_change_while_the_server_runs(
    server: Running, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    path = registry.settings.home / "prices.toml"
    costs = []
    for text in (PRICES, "[models.scripted]\nprmpt = 3", '[models."*"]\nprompt = 1000000\n'):
        path.write_text(text)
        server.state.metering.outdate()
        server.client().chat.completions.create(**ASK)
        row = stored(server, registry)[-1]
        costs.append((row.currency, row.prompt_price))
    assert costs == [("EUR", 10**6), ("EUR", 10**6), ("USD", 10**12)]
    assert "did you mean 'prompt'?" in caplog.text


def test_an_ordinary_stop_loses_nothing(serve: Serve, registry: Registry) -> None:
    server = serve()
    for _ in range(3):
        server.client().chat.completions.create(**ASK)
    server.stop()
    assert [row.outcome for row in rows(registry)] == ["ok"] * 3


def test_streams_say_how_limits_stand(server: Running, registry: Registry) -> None:
    hold(server, registry, rule("all", "", "requests", "day", 5))
    with server.http().stream("POST", "/v1/chat/completions", json=ASK | {"stream": True}) as response:
        assert response.headers["x-ratelimit-remaining-requests"] == "4"
        text = "".join(
            json.loads(line[6:])["choices"][0]["delta"].get("content", "")
            for line in response.iter_lines()
            if line.startswith("data: {")
        )
    assert text == REPLY
