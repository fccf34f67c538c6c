"""Many readers of streams, a process: `python -m benchmarks.gateway.streams PORT KEY STREAMS EVENTS`.

Prints JSON: what came of every stream (`Seen`). Streams begin evenly within `_RAMP_SECONDS`.
"""

import asyncio
import json
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import cast

import httptools
import uvloop

_RAMP_SECONDS = 5.0
_EVENT = re.compile(rb'"content":"(\d+) (\d+\.\d+) "')


@dataclass(slots=True)
class Seen:
    """What all readers saw together."""

    num_events: int = 0
    num_whole: int = 0
    """Streams that ended with `[DONE]` after all their events."""
    faults: list[str] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    """Seconds from an event to the next one of its stream."""
    largest: list[float] = field(default_factory=list)
    """Of each stream the largest of them."""
    delays: list[float] = field(default_factory=list)
    """Seconds from the upstream's sending to the reader's having."""
    cpu_seconds: float = 0.0


class Reader(asyncio.Protocol):
    """One connection with one stream."""

    def __init__(self, request: bytes, num_events: int, seen: Seen) -> None:
        self._request, self._num_events, self._seen = request, num_events, seen
        self._parser = httptools.HttpResponseParser(self)
        self._number, self._last, self._largest = 0, 0.0, 0.0
        self._rest = b""
        self._is_done = False
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        now = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n\n")
        for line in lines:
            if found := _EVENT.search(line):
                self._event(int(found[1]), float(found[2]), now)
            elif line == b"data: [DONE]":
                self._is_done = True
            elif b'"error"' in line:
                self._seen.faults.append(line.decode())

    def _event(self, number: int, sent: float, now: float) -> None:
        seen = self._seen
        if number != self._number:
            seen.faults.append(f"event {number} where {self._number} was due")
        if self._last:
            gap = now - self._last
            seen.gaps.append(gap)
            self._largest = max(self._largest, gap)
        seen.delays.append(now - sent)
        seen.num_events += 1
        self._number, self._last = number + 1, now

    def on_message_complete(self) -> None:
        if (status := self._parser.get_status_code()) != 200:
            self._seen.faults.append(f"answered {status}: {self._rest.decode()}")
        self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._is_done and self._number == self._num_events:
            self._seen.num_whole += 1
        else:
            self._seen.faults.append(f"a stream ended after {self._number} events: {error}")
        self._seen.largest.append(self._largest)
        if not self.ended.done():
            self.ended.set_result(None)


async def read_all(port: int, key: str, num_streams: int, num_events: int) -> Seen:
    """All streams, to their ends."""
    body = json.dumps(
        {
            "model": "mock",
            "stream": True,
            "max_tokens": num_events,
            "messages": [{"role": "user", "content": "What is a cairn?"}],
        }
    ).encode()
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body
    loop, seen, readers = asyncio.get_running_loop(), Seen(), []
    for _ in range(num_streams):
        _, reader = await loop.create_connection(lambda: Reader(request, num_events, seen), "127.0.0.1", port)
        readers.append(reader)
        await asyncio.sleep(_RAMP_SECONDS / num_streams)
    await asyncio.gather(*(reader.ended for reader in readers))
    seen.cpu_seconds = time.process_time()
    return seen


if __name__ == "__main__":
    found = uvloop.run(read_all(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    json.dump(asdict(found), sys.stdout)
