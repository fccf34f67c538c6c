"""Server-sent events and long answers, for clients that are slow, impatient or gone.

A stream's status is decided by its first event: what refuses a request does so before any header is sent
(a provider that stays silent for two seconds gets its 200 first). A silent stream carries comments, so
that dead connections are noticed. A client that does not read within `write_seconds` is dropped; what
waits for it is at most the server's 64 KiB write buffer and the tokens of its own request.
Every way out closes the generator, and with it the engine's request.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cairn.core.errors import CairnError
from cairn.server.config import ServerConfig
from cairn.server.errors import TimeLimitError, cairn_error_body, error_body, logger

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"
_KEEP_ALIVE = b": still working\n\n"
_FIRST_EVENT_SECONDS = 2.0


class ClientLeftError(Exception):
    """The client closed the connection; nobody reads the answer any more."""


def frame(value: Mapping[str, Any]) -> bytes:
    """A JSON value as one event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def until_gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer(work: Coroutine[Any, Any, T], receive: Receive, *, seconds: float) -> T:
    """The result of work, which is cancelled when the client leaves or time runs out."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(until_gone(receive))
    try:
        await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return await task
        if gone.done():
            raise ClientLeftError
        raise _time_limit(seconds)
    finally:
        await _settle(task, gone)


class EventStream(Response):
    """Frames as they come; their generator is closed after the last one or at the client's end."""

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        config: ServerConfig,
        headers: Mapping[str, str],
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({**headers, "cache-control": "no-store", "x-accel-buffering": "no"})
        self._frames = frames
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(until_gone(receive))
        upcoming: asyncio.Task[bytes | None] | None = None
        deadline = time.monotonic() + self._config.request_seconds
        has_started = False
        try:
            while True:
                upcoming = upcoming or asyncio.create_task(self._next())
                patience = self._config.keep_alive_seconds if has_started else _FIRST_EVENT_SECONDS
                await asyncio.wait(
                    {upcoming, gone},
                    timeout=min(patience, deadline - time.monotonic()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if gone.done():
                    return
                data: bytes | None = _KEEP_ALIVE
                is_late = time.monotonic() >= deadline
                if is_late:
                    data = frame(cairn_error_body(_time_limit(self._config.request_seconds)))
                elif upcoming.done():
                    data = _data_of(upcoming, has_started)
                    upcoming = None
                async with asyncio.timeout(self._config.write_seconds):
                    if not has_started:
                        has_started = True
                        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                        await send(head)
                    is_last = data is None or is_late
                    await send({"type": "http.response.body", "body": data or b"", "more_body": not is_last})
                if is_last:
                    return
        except TimeoutError:
            logger.info("dropped a client that does not read")
        finally:
            await _settle(gone, *([upcoming] if upcoming else []))
            await self._frames.aclose()

    async def _next(self) -> bytes | None:
        return await anext(self._frames, None)


def _data_of(upcoming: asyncio.Task[bytes | None], has_started: bool) -> bytes | None:
    """The next frame; a failure after the status was sent becomes an event in OpenAI's error shape."""
    try:
        return upcoming.result()
    except CairnError as error:
        if not has_started:
            raise
        return frame(cairn_error_body(error))
    except Exception as error:
        if not has_started:
            raise
        logger.error("a stream failed", exc_info=error)
        return frame(
            error_body(500, "the server failed on this request; its log says why", code="server.bug")
        )


async def _settle(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs and wait until it has."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _time_limit(seconds: float) -> TimeLimitError:
    return TimeLimitError(f"no complete answer within {seconds:g} s", remedy="ask for fewer tokens")
