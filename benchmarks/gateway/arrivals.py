"""Requests sent at fixed times, whatever becomes of those before, by a process of its own.

`sending` starts the process with the plan, `received` is what it tells of each request at its end. What is
late counts from when it was due; how late the process itself was is told beside it, so that nobody takes its
own slowness for the server's.

    python -m benchmarks.gateway.arrivals PORT < plan.json > outcomes.json
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import httptools
import uvloop

_TOKENS = re.compile(rb'"(completion|prompt)_tokens": ?(\d+)')
_IDLE_SECONDS = 20.0
"""After which a connection is not used again: the server ends those that are idle for 30."""
_TAIL = 2000
"""Bytes of the end of a stream that are kept: usage and what ended it."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request, and when it is due, in seconds from the beginning."""

    at: float
    key: str
    body: dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """What came of a request; times in seconds from when it was due."""

    status: int = 0
    """0: the connection ended without an answer."""
    seconds: float = 0.0
    first: float = 0.0
    """Until the first event of a stream, comments left out, or the body of a whole answer."""
    late: float = 0.0
    """Until it was sent."""
    retry_after: str = ""
    is_whole: bool = False
    """A stream with its end and without an error in it, or a whole answer."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ending: str = ""
    """The end of an answer that is not whole."""


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self.is_open = True
        self.idle_since = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._found = Outcome()
        self._ended: asyncio.Future[None] | None = None

    async def ask(self, request: bytes, due: float, *, is_streamed: bool) -> Outcome:
        """Send a request and wait for the whole of what comes."""
        self._found, self._due, self._is_streamed = Outcome(), due, is_streamed
        self._body = b""
        self._ended = asyncio.get_running_loop().create_future()
        self._found.late = time.perf_counter() - due
        self.transport.write(request)
        await self._ended
        self.idle_since = time.perf_counter()
        self._found.seconds = self.idle_since - due
        return self._found

    # asyncio and httptools call these:

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self._found.retry_after = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        if not self._found.first and (not self._is_streamed or b"data: {" in data):
            self._found.first = time.perf_counter() - self._due
        self._body = (self._body + data)[-_TAIL:] if self._is_streamed else self._body + data

    def on_message_complete(self) -> None:
        found = self._found
        found.status = self._parser.get_status_code()
        tokens = {name: int(number) for name, number in _TOKENS.findall(self._body)}
        found.prompt_tokens, found.completion_tokens = tokens.get(b"prompt", 0), tokens.get(b"completion", 0)
        has_end = self._body.endswith(b"data: [DONE]\n\n") or not self._is_streamed
        found.is_whole = found.status == 200 and has_end and b'"error":{' not in self._body
        if not found.is_whole:
            found.ending = self._body[-300:].decode(errors="replace")
        self._end()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        self._end()

    def _end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


async def replay(port: int, arrivals: Sequence[Arrival]) -> list[Outcome]:
    """Send everything when it is due; outcomes in the same order."""
    requests = [_request(port, arrival) for arrival in arrivals]
    idle: deque[_Connection] = deque()
    found: list[Outcome | None] = [None] * len(arrivals)
    tasks: set[asyncio.Task[None]] = set()

    async def one(number: int, due: float) -> None:
        connection = await _connection(port, idle)
        is_streamed = bool(arrivals[number].body.get("stream"))
        found[number] = await connection.ask(requests[number], due, is_streamed=is_streamed)
        if connection.is_open:
            idle.append(connection)

    started = time.perf_counter()
    for number in sorted(range(len(arrivals)), key=lambda each: arrivals[each].at):
        due = started + arrivals[number].at
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(number, due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for connection in idle:
        connection.transport.close()
    return [each for each in found if each is not None]


async def _connection(port: int, idle: "deque[_Connection]") -> _Connection:
    while idle:
        connection = idle.pop()
        if connection.is_open and time.perf_counter() - connection.idle_since < _IDLE_SECONDS:
            return connection
        connection.transport.close()
    _, made = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
    return made


def _request(port: int, arrival: Arrival) -> bytes:
    body = json.dumps(arrival.body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: "
        f"Bearer {arrival.key}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def sending(url: str, arrivals: Sequence[Arrival]) -> "subprocess.Popen[bytes]":
    """That process, while it sends."""
    command = [sys.executable, "-m", "benchmarks.gateway.arrivals", url.rsplit(":", 1)[1]]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(json.dumps([asdict(arrival) for arrival in arrivals]).encode())
    process.stdin.close()
    return process


def received(process: "subprocess.Popen[bytes]") -> list[Outcome]:
    """What it tells at its end."""
    assert process.stdout is not None
    told = process.stdout.read()
    if process.wait() != 0:
        raise SystemExit("the process that sends requests has failed")
    return [Outcome(**each) for each in json.loads(told)]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a share stays within."""
    ordered = sorted(values)
    return ordered[int(share * (len(ordered) - 1))]


if __name__ == "__main__":
    plan = [Arrival(**each) for each in json.load(sys.stdin)]
    json.dump([asdict(each) for each in uvloop.run(replay(int(sys.argv[1]), plan))], sys.stdout)
