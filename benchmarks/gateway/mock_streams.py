"""An upstream that streams at a steady pace: `python -m benchmarks.gateway.mock_streams PORT RATE`.

Every stream gets `max_tokens` events, RATE a second, at moments of its own that are spread evenly: an event's
text is its number and when it was sent, by the clock that all processes of a machine share.
"""

import asyncio
import re
import sys
import time
from typing import cast

import httptools
import uvloop

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = (
    b'data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1700000000,"model":"mock",'
    b'"choices":[{"index":0,"delta":{"content":"%d %.6f "},"logprobs":null,"finish_reason":null}]}\n\n'
)
_END = (
    b'data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1700000000,"model":"mock",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1700000000,"model":"mock",'
    b'"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":%d,"total_tokens":%d}}\n\n'
    b"data: [DONE]\n\n"
)
_MAX_TOKENS = re.compile(rb'"max_tokens": ?(\d+)')
_SLOTS = 50
"""Moments within the time from one event to the next, each with its share of the streams."""


class Wheel:
    """Who is sent an event at which moment."""

    def __init__(self, rate: float) -> None:
        self._seconds = 1 / rate / _SLOTS
        self._slots: list[dict[Stream, int]] = [{} for _ in range(_SLOTS)]

    def add(self, stream: "Stream") -> None:
        """Begin a stream, at the moment that has the fewest."""
        min(self._slots, key=len)[stream] = 0

    def leave(self, stream: "Stream") -> None:
        for slot in self._slots:
            slot.pop(stream, None)

    async def turn(self) -> None:
        """Send for ever; moments that were missed are made up for at once."""
        due, place = time.monotonic(), 0
        while True:
            slot = self._slots[place]
            for stream, number in list(slot.items()):
                if number < stream.num_events:
                    slot[stream] = number + 1
                    stream.send(_EVENT % (number, time.monotonic()))
                else:
                    del slot[stream]
                    stream.end(_END % (number, number + 20))
            due, place = due + self._seconds, (place + 1) % _SLOTS
            await asyncio.sleep(max(0.0, due - time.monotonic()))


class Stream(asyncio.Protocol):
    """A connection, whose requests are all answered alike."""

    wheel: Wheel
    num_events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.wheel.leave(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        if found := _MAX_TOKENS.search(data):
            self.num_events = int(found[1])

    def on_message_complete(self) -> None:
        self._transport.write(_HEAD)
        self.wheel.add(self)

    def send(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self, data: bytes) -> None:
        self.send(data)
        self._transport.write(b"0\r\n\r\n")


async def main(port: int, rate: float) -> None:
    """Serve until killed."""
    Stream.wheel = Wheel(rate)
    server = await asyncio.get_running_loop().create_server(Stream, "127.0.0.1", port, backlog=1000)
    async with server:
        await Stream.wheel.turn()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2])))
