"""The clock jumps, forward and back, under load: nothing hangs, nothing is free, nothing is counted twice."""

import time
from pathlib import Path

import openai

from cairn.core import Settings
from cairn.registry import Registry
from cairn.server.usage.rules import Rule, set_rules
from tests.providers.remote.upstream import FakeUpstream, speak, whole
from tests.server.batches.test_batches import ENDED, begin, line, told, upload
from tests.server.conftest import PATIENCE
from tests.server.faults.conftest import Load, Start, Told, Up, assert_counted, wait_until, write_route

HI = [{"role": "user", "content": "hi"}]
HOUR, DAY, YEAR = 3600.0, 86400.0, 365 * 86400.0
JUMPS = (HOUR, -2 * HOUR, YEAR, -YEAR, 0.0)


def jump(server: Up, seconds: float) -> None:
    """Set the wall clock wrong by so much."""
    changed = server.clock.with_suffix(".new")
    changed.write_text(str(seconds))
    changed.replace(server.clock)


def test_answers_and_a_batch_go_on(up: Start, home: Path, upstream: FakeUpstream) -> None:
    write_route(home, upstream)
    server = up()
    load = Load(server, [{"model": "way", "messages": HI, "stream": number % 2 == 0} for number in range(4)])
    try:
        for seconds in JUMPS[:2]:
            jump(server, seconds)
            load.wait_for(20)
        client = openai.OpenAI(
            base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=PATIENCE
        )
        with client:
            lines = [line(f"ask-{n}", {"model": "way", "messages": HI, "seed": n}) for n in range(40)]
            batch = begin(client, upload(client, *lines))
            for seconds in (HOUR, -3 * HOUR, 0.0):
                jump(server, seconds)
                load.wait_for(10)
            wait_until(lambda: client.batches.retrieve(batch.id).status in ENDED)
            answers = told(client, client.batches.retrieve(batch.id).output_file_id)
        for seconds in JUMPS[2:]:
            jump(server, seconds)
            load.wait_for(20)
    finally:
        found = load.stop()
    server.stop()
    assert {each.status for each in found} == {200}
    assert [each["custom_id"] for each in answers] == [f"ask-{number}" for number in range(40)]
    assert {each["response"]["status_code"] for each in answers} == {200}
    assert_counted(Settings(home=home), found)


def test_what_expires_does_so_by_the_clock_of_the_day(up: Start) -> None:
    """A key and a session end when their time has come, and a clock that was wrong ends neither for good."""
    server = up()
    with server.http() as client, server.http("") as browser:
        key = client.post("/api/keys", json={"expires_at": time.time() + HOUR}).json()["key"]
        del browser.headers["authorization"]
        assert browser.get(server.link).status_code == 303
        assert browser.get("/api/session").status_code == 200
        assert server.ask(key=key).status == 200
        jump(server, 2 * HOUR)
        wait_until(lambda: server.ask(key=key).status == 401)
        jump(server, YEAR)
        wait_until(lambda: browser.get("/api/session").status_code == 401)
        assert client.get("/api/session").status_code == 200, "the key without an end"
        jump(server, 0)
        wait_until(lambda: server.ask(key=key).status == 200)
        jump(server, -2 * HOUR)
        assert server.ask(key=key).status == 200
        assert client.get("/api/session").status_code == 200


def test_windows_and_budgets(up: Start, home: Path, upstream: FakeUpstream) -> None:
    """A jump neither frees a window that is used up nor locks it for longer; a budget is that of the day."""
    write_route(home, upstream)
    (home / "prices.toml").write_text('[models."*"]\nprompt = 100000\ncompletion = 100000\n')
    settings = Settings(home=home)
    with Registry.open(settings) as registry:
        rules = [
            Rule(kind="all", name="", metric="requests", window="hour", amount=3, model="starter"),
            Rule(kind="all", name="", metric="money", window="day", amount=900_000, model="way"),
        ]
        set_rules(registry, rules, "test")
    server = up()
    answers = [server.ask() for _ in range(3)]
    assert [each.status for each in answers] == [200] * 3
    for seconds in (*JUMPS, DAY):
        jump(server, seconds)
        refused = server.ask()
        assert (refused.status, 0 < int(refused.retry_after) <= HOUR) == (429, True), refused

    jump(server, 0)
    first = server.ask("way", max_tokens=1)
    assert first.status == 200
    answers.append(first)
    wait_until(lambda: spent(server, answers))
    jump(server, 40 * DAY)
    other_day = server.ask("way", max_tokens=1)
    assert other_day.status == 200, other_day
    answers.append(other_day)
    wait_until(lambda: spent(server, answers))
    jump(server, 0)
    assert server.ask("way", max_tokens=1).status == 429, "what that day has spent is known"
    server.stop()
    assert_counted(settings, answers)


def spent(server: Up, answers: list[Told]) -> bool:
    found = server.ask("way", max_tokens=1)
    if found.status == 200:
        answers.append(found)
    return found.status == 429


def test_a_breaker_has_a_clock_of_its_own(up: Start, home: Path, upstream: FakeUpstream) -> None:
    """An upstream that asked to be left alone for an hour is, whatever the wall clock says."""
    upstream.behave = whole({}, 429, {"retry-after": "3600"})
    write_route(home, upstream)
    routes = home / "routes.toml"
    routes.write_text(routes.read_text().replace('model = "s" }]', 'model = "s" }, { model = "starter" }]'))
    server = up()
    answers = [server.ask("way")]
    num_asked = len(upstream.asked)
    upstream.behave = speak
    for seconds in JUMPS:
        jump(server, seconds)
        answers.append(server.ask("way"))
    assert len(upstream.asked) == num_asked
    server.stop()
    assert {each.status for each in answers} == {200}
    assert_counted(Settings(home=home), answers)
