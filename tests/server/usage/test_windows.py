"""Windows of requests and tokens: all or nothing, put right afterwards, by a clock that never jumps."""

import asyncio

import pytest

from cairn.core.errors import ConfigError
from cairn.server.usage.errors import RateLimitedError
from cairn.server.usage.windows import Claim, Windows, duration, rate_headers
from tests.server.usage.conftest import applied

REQUESTS = applied("user", "ada", "requests", "minute", 3)
TOKENS = applied("user", "ada", "tokens", "hour", 1000)


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


async def used(windows: Windows) -> list[int]:
    return [claim.count for claim in await windows.peek([Claim(REQUESTS, 0), Claim(TOKENS, 0)])]


async def test_no_more_than_allowed_until_the_window_ends() -> None:
    clock = Clock()
    windows = Windows(clock=clock)
    for _ in range(3):
        await windows.reserve([Claim(REQUESTS, 1)])
    clock.now += 59.5
    with pytest.raises(RateLimitedError, match="3 of 3 requests per minute are used") as caught:
        await windows.reserve([Claim(REQUESTS, 1)])
    assert caught.value.retry_after == pytest.approx(0.5, abs=0.05)
    assert caught.value.headers["x-ratelimit-remaining-requests"] == "0"
    clock.now += 0.5
    await windows.reserve([Claim(REQUESTS, 1)])
    assert await used(windows) == [1, 0]


async def test_what_is_refused_counts_nowhere() -> None:
    windows = Windows(clock=Clock())
    await windows.reserve([Claim(REQUESTS, 1), Claim(TOKENS, 900)])
    for _ in range(5):
        with pytest.raises(RateLimitedError, match="900 of 1,000 tokens per hour are used"):
            await windows.reserve([Claim(REQUESTS, 1), Claim(TOKENS, 101)])
    assert await used(windows) == [1, 900]
    await windows.reserve([Claim(REQUESTS, 1), Claim(TOKENS, 100)])


async def test_what_was_reserved_is_put_right() -> None:
    clock = Clock()
    windows = Windows(clock=clock)
    first = await windows.reserve([Claim(REQUESTS, 1), Claim(TOKENS, 900)])
    await windows.settle(first, [1, 40])
    assert await used(windows) == [1, 40]
    second = await windows.reserve([Claim(REQUESTS, 1), Claim(TOKENS, 100)])
    await windows.settle(second, [1, 1500])
    assert await used(windows) == [2, 1540]
    with pytest.raises(RateLimitedError):
        await windows.reserve([Claim(TOKENS, 1)])


async def test_a_window_that_is_over_gets_nothing_back() -> None:
    clock = Clock()
    windows = Windows(clock=clock)
    first = await windows.reserve([Claim(TOKENS, 900)])
    clock.now += 3600
    await windows.settle(first, [0])
    assert await used(windows) == [0, 0]
    with pytest.raises(RateLimitedError):
        await windows.reserve([Claim(TOKENS, 1001)])


async def test_what_can_never_pass_is_not_asked_to_come_again() -> None:
    windows = Windows(clock=Clock())
    with pytest.raises(RateLimitedError, match="may take 1,001 tokens, user ada may use 1,000") as caught:
        await windows.reserve([Claim(TOKENS, 1001)])
    assert caught.value.headers["x-should-retry"] == "false"


async def test_many_at_once() -> None:
    windows = Windows(clock=Clock())
    limit = applied("all", "", "tokens", "minute", 100)

    async def ask(cost: int) -> int:
        try:
            await windows.reserve([Claim(limit, cost), Claim(TOKENS, 1)])
        except RateLimitedError:
            return 0
        return cost

    taken = await asyncio.gather(*(ask(7) for _ in range(50)))
    assert sum(taken) == 98
    assert await used(windows) == [0, 14]


async def test_the_headers_tell_of_the_tightest() -> None:
    windows = Windows(clock=Clock())
    wide = applied("all", "", "requests", "day", 1000)
    reserved = await windows.reserve([Claim(wide, 1), Claim(REQUESTS, 1), Claim(TOKENS, 400)])
    headers = rate_headers(reserved.claims)
    assert headers == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "1m0s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "600",
        "x-ratelimit-reset-tokens": "1h0m0s",
    }


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cairn.server.usage.windows._PRUNE_AT", 10)
    clock = Clock()
    windows = Windows(clock=clock)
    for number in range(100):
        await windows.reserve([Claim(applied("user", f"u{number}", "requests", "minute", 1), 1)])
        clock.now += 10
    assert len(windows._memory._held) <= 10


def test_durations() -> None:
    assert [duration(each) for each in (0.12, 1, 59.6, 360, 3725)] == [
        "120ms",
        "1s",
        "1m0s",
        "6m0s",
        "1h2m5s",
    ]


def test_an_address_that_is_none() -> None:
    with pytest.raises(ConfigError, match="CAIRN_REDIS_URL is 'http://host/'") as caught:
        Windows("http://me:secret@host/")
    assert "secret" not in str(caught.value)
