"""Limits in a real Redis: several servers count together; it goes away, and comes back."""

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cairn.core.errors import UnavailableError
from cairn.server.usage.errors import RateLimitedError
from cairn.server.usage.windows import Claim, Windows
from tests.server.usage.conftest import applied

pytest.importorskip("redis")
SERVER = shutil.which("redis-server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="needs redis-server")
REQUESTS = applied("user", "ada", "requests", "minute", 3)
TOKENS = applied("user", "ada", "tokens", "hour", 1000)
PATIENCE = 30.0


class Redis:
    """A server that can be killed and started again on its port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        assert SERVER is not None
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [SERVER, *arguments, "--dir", str(self._folder)], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b"Ready to accept connections" in line:
                return
        raise AssertionError("redis-server did not start")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path)
    yield server
    server.kill()


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


async def test_servers_count_together(redis: Redis) -> None:
    one, other = Windows(redis.url), Windows(redis.url)
    first = await one.reserve([Claim(REQUESTS, 1), Claim(TOKENS, 900)])
    with pytest.raises(RateLimitedError, match="900 of 1,000 tokens"):
        await other.reserve([Claim(REQUESTS, 1), Claim(TOKENS, 101)])
    await one.settle(first, [1, 40])
    found = await other.peek([Claim(REQUESTS, 0), Claim(TOKENS, 0)])
    assert [claim.count for claim in found] == [1, 40]
    assert 0 < found[0].seconds_left <= 60 < found[1].seconds_left <= 3600
    for windows in (one, other):
        await windows.close()


async def test_many_at_once_over_two_servers(redis: Redis) -> None:
    both = (Windows(redis.url), Windows(redis.url))
    limit = applied("all", "", "requests", "hour", 40)

    async def ask(number: int) -> int:
        try:
            await both[number % 2].reserve([Claim(limit, 1)])
        except RateLimitedError:
            return 0
        return 1

    taken = sum(await asyncio.gather(*(ask(number) for number in range(100))))
    # One that is refused counts for a moment, so others may be refused with it; never are more let in.
    assert 0 < taken <= 40
    (standing,) = await both[0].peek([Claim(limit, 0)])
    assert standing.count == taken
    for windows in both:
        await windows.close()


@pytest.mark.parametrize("failure", ["refuse", "allow"])
async def test_it_goes_away_and_comes_back(
    redis: Redis, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    windows = Windows(redis.url, redis_failure=failure, clock=clock)  # type: ignore[arg-type]
    before = await windows.reserve([Claim(REQUESTS, 1)])
    redis.kill()
    if failure == "refuse":
        for _ in range(3):
            with pytest.raises(UnavailableError, match="limits cannot be counted: Redis at redis://127"):
                await windows.reserve([Claim(REQUESTS, 1)])
    else:
        for _ in range(3):
            await windows.reserve([Claim(REQUESTS, 1)])
        with pytest.raises(RateLimitedError):
            await windows.reserve([Claim(REQUESTS, 1)])
    await windows.settle(before, [0])  # what cannot be put right stays as it was reserved
    redis.start()
    clock.now += 2
    for _ in range(3):
        await windows.reserve([Claim(REQUESTS, 1)])
    with pytest.raises(RateLimitedError):
        await windows.reserve([Claim(REQUESTS, 1)])
    assert caplog.text.count("does not answer") == 1
    assert caplog.text.count("answers again") == 1
    await windows.close()
