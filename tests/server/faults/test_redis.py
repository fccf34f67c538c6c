"""Redis goes away under load and comes back, before a server that counts limits there."""

from pathlib import Path

import pytest

from cairn.core import Settings
from cairn.registry import Registry
from cairn.server.usage.rules import Rule, set_rules
from tests.providers.remote.upstream import FakeUpstream
from tests.server.faults.conftest import Load, Start, assert_counted, write_route
from tests.server.usage.test_redis import SERVER, Redis

pytestmark = pytest.mark.skipif(SERVER is None, reason="needs redis-server")
HI = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("failure", ["refuse", "allow"])
def test_it_goes_away_under_load(
    up: Start, home: Path, tmp_path: Path, upstream: FakeUpstream, failure: str
) -> None:
    write_route(home, upstream)
    redis = Redis(tmp_path)
    settings = Settings(home=home)
    with Registry.open(settings) as registry:
        rule = Rule(kind="all", name="", metric="requests", window="day", amount=1_000_000)
        set_rules(registry, [rule], "test")
    server = up("--redis-failure", failure, CAIRN_REDIS_URL=redis.url)
    load = Load(server, [{"model": "way", "messages": HI, "stream": number % 2 == 0} for number in range(4)])
    try:
        for _ in range(2):
            load.wait_for(20)
            redis.kill()
            if failure == "refuse":
                load.wait_for(5, status=503)
            else:
                load.wait_for(20)
            redis.start()
            load.wait_for(20)
    finally:
        answers = load.stop()
        redis.kill()
    server.stop()
    refused = [each for each in answers if each.status != 200]
    assert {each.status for each in refused} == ({503} if failure == "refuse" else set())
    assert all("Redis" in each.text and each.retry_after for each in refused)
    assert_counted(settings, answers)
