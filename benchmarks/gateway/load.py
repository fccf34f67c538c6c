"""A load generator that costs little: one request over open connections, as fast as answered or at a rate."""

import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass, field
from typing import cast

import httptools


@dataclass(slots=True)
class Measured:
    """What a run of requests took."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """Seconds, of good answers."""
    num_failed: int = 0

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """Seconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def request_of(port: int, model: str, key: str) -> bytes:
    """A short chat as an OpenAI client sends it."""
    body = json.dumps(
        {
            "model": model,
            "messages": [
                {"role": "system", "content": "You answer in one sentence."},
                {"role": "user", "content": "What is a cairn, and what was it first made for?"},
            ],
            "temperature": 0.7,
            "max_tokens": 64,
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, request: bytes, measured: Measured) -> None:
        self._request = request
        self._measured = measured
        self._parser = httptools.HttpResponseParser(self)
        self._answered: asyncio.Future[bool] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(self._parser.get_status_code() == 200)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(False)

    async def ask(self, since: float) -> None:
        """One request, timed from when it should have been sent."""
        self._answered = asyncio.get_running_loop().create_future()
        self.transport.write(self._request)
        if await self._answered:
            self._measured.latencies.append(time.perf_counter() - since)
        else:
            self._measured.num_failed += 1


async def _clients(port: int, request: bytes, num: int, measured: Measured) -> list[_Client]:
    loop = asyncio.get_running_loop()
    pairs = [
        await loop.create_connection(lambda: _Client(request, measured), "127.0.0.1", port)
        for _ in range(num)
    ]
    return [client for _, client in pairs]


async def closed_loop(port: int, request: bytes, *, clients: int, num_requests: int) -> Measured:
    """So many clients, each of which asks again as soon as it is answered."""
    measured = Measured()
    opened = await _clients(port, request, clients, measured)
    left = num_requests

    async def work(client: _Client) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await client.ask(time.perf_counter())

    started = time.perf_counter()
    await asyncio.gather(*(work(client) for client in opened))
    measured.seconds = time.perf_counter() - started
    for client in opened:
        client.transport.close()
    return measured


async def at_rate(port: int, request: bytes, *, rate: float, num_requests: int) -> Measured:
    """Requests at even times, whether or not those before were answered; late ones count from their time."""
    measured = Measured()
    idle = deque(await _clients(port, request, 64, measured))
    tasks: set[asyncio.Task[None]] = set()

    async def one(since: float) -> None:
        client = idle.popleft() if idle else (await _clients(port, request, 1, measured))[0]
        await client.ask(since)
        idle.append(client)

    started = time.perf_counter()
    for number in range(num_requests):
        due = started + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    measured.seconds = time.perf_counter() - started
    for client in idle:
        client.transport.close()
    return measured
