"""A real small HTTP server whose answers are written down beforehand, and which can behave badly."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PATIENCE = 60.0


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    reader: asyncio.StreamReader


Behave = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


def head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode()


def whole(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Behave:
    """One JSON value as the whole answer."""

    async def behave(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        known = {"content-type": "application/json", "content-length": str(len(data))}
        writer.write(head(status, known | dict(headers or {})) + data)
        await writer.drain()

    return behave


def streamed(events: Sequence[Any], *, is_done: bool = True, is_cut: bool = False) -> Behave:
    """Events as they are, chunked; cut off without an end where told to."""

    async def behave(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        kind = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
        writer.write(head(200, kind))
        for event in [*events, *([b"data: [DONE]\n\n"] if is_done else [])]:
            data = event if isinstance(event, bytes) else f"data: {json.dumps(event)}\n\n".encode()
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()
        if is_cut:
            writer.close()
        else:
            writer.write(b"0\r\n\r\n")
            await writer.drain()

    return behave


def raw(data: bytes, *, closes: bool = True) -> Behave:
    """Bytes as they are."""

    async def behave(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if closes:
            writer.close()

    return behave


async def hang(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Never answer; returns when the client has gone."""
    await asked.reader.read(1)
    writer.close()


def text_chunk(text: str, reason: str | None = None, **extra: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "model": "stone-1",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}],
        **extra,
    }


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}


def said(text: str, **extra: Any) -> dict[str, Any]:
    """A whole chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "model": "stone-1", "choices": [choice], "usage": USAGE, **extra}


async def speak(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """A good answer in the form that was asked for."""
    if asked.body.get("stream"):
        chunks = [
            text_chunk("stones "),
            text_chunk("mark"),
            text_chunk("", "stop"),
            {"choices": [], "usage": USAGE},
        ]
        await streamed(chunks)(asked, writer)
    else:
        await whole(said("stones mark"))(asked, writer)


@dataclass
class FakeUpstream:
    """Serves on a free port in a thread; `line` is what comes next, then always `behave`."""

    behave: Behave = speak
    line: list[Behave] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    num_connections: int = 0
    num_open: int = 0
    port: int = 0

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._converse(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        self.num_open += 1
        try:
            while not writer.is_closing():
                asked = await _read(reader)
                self.asked.append(asked)
                behave = self.line.pop(0) if self.line else self.behave
                await behave(asked, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.num_open -= 1
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Asked:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    data = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, json.loads(data) if data else {}, reader)
