"""Server-sent events and long answers, for clients that are slow, impatient or gone.

A stream's status is decided by its first event: what refuses a request does so before any header is sent
(a provider that stays silent for two seconds gets its 200 first). A silent stream carries comments, so
that dead connections are noticed. A client that does not read within `write_seconds` is dropped; what
waits for it is at most the server's 64 KiB write buffer and the tokens of its own request.
Every way out closes the generator, and with it the engine's request.
"""

import asyncio
import json
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from json.encoder import encode_basestring
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from cairn.core.errors import AuthenticationError, CairnError, ForbiddenError
from cairn.server.config import ServerConfig
from cairn.server.errors import TimeLimitError, cairn_error_body, error_body, logger

DONE = b"data: [DONE]\n\n"
_FIRST_EVENT_SECONDS = 2.0
_LOOK = 0.01
_HOLE = "text of a token"
RECHECK = "cairn.recheck"
"""Where a request's scope has what raises once its caller may not go on.

It takes the request rather than to hold it: a scope that leads back to its own request is garbage for the
collector, and finding it took a tenth of a busy server's time.
"""
Recheck = Callable[[], Awaitable[object]]
_CLIENT_LEFT = 499  # as nginx has it; nobody reads it but the log


def frame(value: Mapping[str, Any]) -> bytes:
    """A JSON value as one event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def typed_frame(value: Mapping[str, Any]) -> bytes:
    """The same, named after its `type`."""
    return f"event: {value['type']}\n".encode() + frame(value)


def text_frames_like(
    value: Callable[[str], Mapping[str, Any]], framed: Callable[[Mapping[str, Any]], bytes] = frame
) -> Callable[[str], bytes]:
    """`framed(value(text))` for any text, where the text is a string of its own, the last of that value."""
    head, hole, tail = framed(value(_HOLE)).rpartition(encode_basestring(_HOLE).encode())
    assert hole, "the text is in the value"
    return lambda text: head + encode_basestring(text).encode() + tail


def _openai_failure(_status: int, body: dict[str, Any]) -> bytes:
    return frame(body)


@dataclass(frozen=True, slots=True)
class Manner:
    """How an API's streams tell what is no part of the answer."""

    keep_alive: bytes = b": still working\n\n"
    failure: Callable[[int, dict[str, Any]], bytes] = _openai_failure
    """An error after the status was sent: from its own status and its object in OpenAI's shape."""


OPENAI = Manner()
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}
"""What a route's description says beside its answer, where that may be a stream."""


async def until_gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer(
    work: Coroutine[Any, Any, Any], request: Request, *, config: ServerConfig, headers: Mapping[str, str]
) -> Response:
    """The result of work as JSON; it is cancelled when the client leaves or time runs out."""
    gone = asyncio.create_task(until_gone(request.receive))
    try:
        async with asyncio.timeout(config.request_seconds) as limit:
            gone.add_done_callback(partial(_end_now, limit))
            # A task of its own, for each of its steps would pass through all that this one is within.
            return JSONResponse(await asyncio.create_task(work), headers=headers)
    except TimeoutError:
        if not limit.expired():
            raise  # of the work
        if gone.done():
            return Response(status_code=_CLIENT_LEFT)
        raise _time_limit(config.request_seconds) from None
    finally:
        gone.cancel()


def _end_now(limit: asyncio.Timeout, gone: asyncio.Task[None]) -> None:
    if not gone.cancelled():
        with suppress(RuntimeError):  # the answer was there at the same moment
            limit.reschedule(0.0)


class EventStream(Response):
    """Frames as they come; their generator is closed after the last one or at the client's end.

    One task takes frames and sends them; another only looks at the clock and for the client's leaving, so
    that a token costs no task, no timer and no wake-up beside its own.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        config: ServerConfig,
        headers: Mapping[str, str],
        manner: Manner = OPENAI,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({**headers, "cache-control": "no-store", "x-accel-buffering": "no"})
        self._given_headers = headers
        self._frames = frames
        self._config = config
        self._manner = manner
        self._turn = asyncio.Lock()
        self._has_started = self._is_sending = self._is_over = False
        self._since = time.monotonic()  # when it began to send, or last had sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(until_gone(receive))
        pump = asyncio.create_task(self._pump(send))
        try:
            checked = scope.get(RECHECK)
            recheck = None if checked is None else partial(checked, Request(scope))
            await self._watch(gone, pump, send, recheck)
        except TimeoutError:
            logger.info("dropped a client that does not read")
        finally:
            await _settle(gone, pump)
            await self._frames.aclose()

    async def _watch(
        self, gone: asyncio.Task[None], pump: asyncio.Task[None], send: Send, recheck: Recheck | None
    ) -> None:
        """Until all is sent: keep the stream alive, within its limits. `TimeoutError`: nobody reads."""
        config, deadline = self._config, time.monotonic() + self._config.request_seconds
        check_at = time.monotonic() + config.recheck_seconds if recheck is not None else math.inf
        while True:
            now = time.monotonic()
            if now >= check_at and recheck is not None:
                check_at = now + config.recheck_seconds
                if (refusal := await _refused(recheck)) is not None:
                    async with asyncio.timeout(config.write_seconds):
                        await self._send(send, self._failure(refusal), is_last=True)
                    return
                now = time.monotonic()
            quiet = config.keep_alive_seconds if self._has_started else _FIRST_EVENT_SECONDS
            limit = self._since + (config.write_seconds if self._is_sending else quiet)
            if now >= limit and self._is_sending:
                raise TimeoutError
            if now >= deadline and not self._is_sending:
                late = self._failure(_time_limit(config.request_seconds))
                async with asyncio.timeout(config.write_seconds):
                    await self._send(send, late, is_last=True)
                return
            if now >= limit:
                async with asyncio.timeout(config.write_seconds):
                    await self._send(send, self._manner.keep_alive)
                continue
            # What is waited for may change in between: look again after the shortest of the waits.
            waits = (
                limit - now,
                config.keep_alive_seconds,
                config.write_seconds,
                max(deadline - now, _LOOK),
                max(check_at - now, _LOOK),
            )
            await asyncio.wait({pump, gone}, timeout=min(waits), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return
            if pump.done():
                pump.result()
                return

    async def _pump(self, send: Send) -> None:
        while (data := await self._next()) is not None:
            await self._send(send, data)
        await self._send(send, b"", is_last=True)

    async def _next(self) -> bytes | None:
        """The next frame; a failure after the status was sent becomes an event."""
        try:
            return await anext(self._frames, None)
        except Exception as error:
            if not self._has_started:
                raise
            if isinstance(error, CairnError):
                return self._failure(error)
            logger.error("a stream failed", exc_info=error)
            said = "the server failed on this request; its log says why"
            return self._manner.failure(500, error_body(500, said, code="server.bug"))

    def _failure(self, error: CairnError) -> bytes:
        return self._manner.failure(error.http_status, cairn_error_body(error))

    async def _send(self, send: Send, data: bytes, *, is_last: bool = False) -> None:
        async with self._turn:
            if self._is_over:
                return
            self._is_sending, self._since, self._is_over = True, time.monotonic(), is_last
            if not self._has_started:
                self._has_started = True
                self.headers.update(self._given_headers)  # who answers is known since the first event
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": data, "more_body": not is_last})
            self._is_sending, self._since = False, time.monotonic()


async def _refused(recheck: Recheck) -> CairnError | None:
    """Why who asked may not go on listening. A database that cannot say so now ends no stream."""
    try:
        await recheck()
    except (AuthenticationError, ForbiddenError) as error:
        return error
    except CairnError as error:
        logger.warning("a stream's caller could not be checked again: %s", error.message)
    return None


async def _settle(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs and wait until it has."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _time_limit(seconds: float) -> TimeLimitError:
    return TimeLimitError(f"no complete answer within {seconds:g} s", remedy="ask for fewer tokens")
