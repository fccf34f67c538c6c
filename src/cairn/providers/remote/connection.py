"""HTTP/1.1 to one upstream: connections that stay open, and a time limit on every wait.

Parsed by httptools, as the server's own side is, so that a gateway spends its time on neither. A connection
that the upstream had closed before it said anything on it is replaced once, as browsers do; nothing else is
sent twice. Not covered: HTTP/2, proxies, compressed answers (none are asked for).
"""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import cast
from urllib.parse import urlsplit

import httptools

from cairn.providers.remote.config import ProviderConfig
from cairn.providers.remote.errors import (
    UpstreamGarbageError,
    UpstreamOverloadedError,
    UpstreamUnavailableError,
)
from cairn.telemetry import current

_MOST_HEADER_BYTES = 64_000
_MOST_WAITING_BYTES = 256_000
"""Of an answer that nobody has read yet, before its sender is made to wait."""


class _GoneError(Exception):
    """The connection ended before the answer did."""


class _Connection(asyncio.Protocol):
    """One connection, and what has come of the answer under way."""

    def __init__(self) -> None:
        self.is_open = True
        self.is_used = self.is_busy = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.is_begun = self.is_complete = self.is_kept = False
        self.garbage = ""
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: deque[bytes] = deque()
        self._num_waiting = self._num_header_bytes = 0
        self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None

    def send(self, data: bytes) -> None:
        """Begin a request; the answer before it was complete."""
        assert self._transport is not None, "a connection is handed out connected"
        self.status, self.headers = 0, {}
        self.is_begun = self.is_complete = self.is_kept = False
        self.is_used = self.is_busy = True
        self._num_header_bytes = 0
        self._transport.write(data)

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    async def wait(self, seconds: float) -> None:
        """Until more has come; `TimeoutError`, or `_GoneError` where nothing will."""
        if not self.is_open:
            raise _GoneError
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(max(0.0, seconds), _expire, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def take(self) -> bytes:
        """What has come of the body since the last call."""
        data = b"".join(self._chunks) if len(self._chunks) != 1 else self._chunks[0]
        self._chunks.clear()
        self._num_waiting = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    # asyncio calls these:

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        is_bounded = "content-length" in self.headers or "transfer-encoding" in self.headers
        if error is None and self.is_begun and not is_bounded:
            self.is_complete = True  # an answer without a length ends with its connection
        self._wake()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.garbage = self.garbage or str(error)
            self.close()
        if self._num_waiting > _MOST_WAITING_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    # httptools calls these:

    def on_message_begin(self) -> None:
        if self.is_complete or not self.is_busy:
            self.garbage = "it answers what was not asked"
            raise ValueError(self.garbage)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._num_header_bytes += len(name) + len(value)
        if self._num_header_bytes > _MOST_HEADER_BYTES:
            self.garbage = "its headers are too long"
            raise ValueError(self.garbage)
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self.is_begun = True

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)
        self._num_waiting += len(data)

    def on_message_complete(self) -> None:
        if self.status < 200:
            self.headers = {}  # "go on" before the answer itself
            return
        self.is_complete, self.is_kept = True, self._parser.should_keep_alive()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _trace_headers() -> bytes:
    """What makes the upstream's part one of the trace that is being recorded."""
    span = current()
    if not span:
        return b""
    state = f"tracestate: {span.trace.state}\r\n" if span.trace.state else ""
    return f"traceparent: {span.traceparent()}\r\n{state}".encode("latin-1")


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


class Answer:
    """An answer whose status and headers have come."""

    def __init__(self, connection: _Connection, upstream: "Upstream", deadline: float) -> None:
        self.status = connection.status
        self.headers = connection.headers
        self._connection = connection
        self._upstream = upstream
        self._deadline = deadline

    async def chunks(self, first_seconds: float | None = None) -> AsyncGenerator[bytes, None]:
        """The body as it comes; every wait is bounded, the first one by a limit of its own."""
        connection, config = self._connection, self._upstream.config
        limit = config.between_tokens_seconds if first_seconds is None else first_seconds
        loop = asyncio.get_running_loop()
        while True:
            if data := connection.take():
                yield data
                limit = config.between_tokens_seconds
            elif connection.is_complete:
                return
            else:
                await self._upstream.wait(connection, min(limit, self._deadline - loop.time()))

    async def read(self, most: int) -> bytes:
        """The whole body."""
        parts, size = [], 0
        async with contextlib.aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                parts.append(chunk)
                size += len(chunk)
                if size > most:
                    raise UpstreamGarbageError(
                        f"provider {self._upstream.name!r} sent more than {most} bytes"
                    )
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Upstream:
    """The connections to one server, under the name that errors give."""

    def __init__(self, name: str, config: ProviderConfig, headers: dict[str, str]) -> None:
        self.name = name
        self.config = config
        parts = urlsplit(config.base_url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._path = parts.path
        fixed = {"host": parts.netloc, "content-type": "application/json", "accept-encoding": "identity"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in (fixed | headers).items())
        self._head = lines.encode("latin-1")
        self.described: dict[str, str | int] = {
            "gen_ai.provider.name": config.kind,
            "server.address": self._host,
            "server.port": self._port,
        }
        """What spans say of it."""
        self._idle: list[_Connection] = []
        self._places = asyncio.Semaphore(config.max_connections)
        self._is_closed = False

    @asynccontextmanager
    async def ask(
        self, path: str, body: bytes | None, *, first_seconds: float, whole_seconds: float | None = None
    ) -> AsyncIterator[Answer]:
        """Send a request (a GET without body); the answer's head has come when this is entered."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (whole_seconds or self.config.whole_seconds)
        method = "GET" if body is None else "POST"
        request = b"".join(
            (
                f"{method} {self._path}{path} HTTP/1.1\r\n".encode("latin-1"),
                self._head,
                _trace_headers(),
                b"" if body is None else b"content-length: %d\r\n" % len(body),
                b"\r\n",
                body or b"",
            )
        )
        await self._place()
        connection: _Connection | None = None
        try:
            connection = await self._begun(request, min(first_seconds, deadline - loop.time()))
            yield Answer(connection, self, deadline)
        finally:
            self._places.release()
            if connection is not None:
                self._put_back(connection)

    async def wait(self, connection: _Connection, seconds: float) -> None:
        """Until a connection has more; what can go wrong then, as errors."""
        problem = ""
        try:
            await connection.wait(seconds)
        except TimeoutError:
            connection.close()
            problem = "said nothing for too long"
        except _GoneError:
            problem = "broke off its answer"
        if connection.garbage:
            raise UpstreamGarbageError(f"provider {self.name!r} does not speak HTTP: {connection.garbage}")
        if problem:
            raise UpstreamUnavailableError(f"provider {self.name!r} {problem}", remedy="ask again")

    def close(self) -> None:
        """Let idle connections go; those in use go when their answer ends."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()

    async def aclose(self) -> None:
        """Let idle connections go, and wait until they have."""
        self.close()
        await asyncio.sleep(0)

    async def _place(self) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        try:
            async with asyncio.timeout(self.config.connect_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise UpstreamOverloadedError(
                f"all {self.config.max_connections} connections to provider {self.name!r} are in use",
                remedy="ask again, or raise max_connections",
                retry_after=1,
            ) from None

    async def _begun(self, request: bytes, seconds: float) -> _Connection:
        """A connection on which the answer's head has come."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            connection = await self._connection()
            was_used = connection.is_used
            try:
                connection.send(request)
                while not connection.is_begun:
                    await self.wait(connection, until - loop.time())
                return connection
            except UpstreamUnavailableError:
                is_stale = was_used and not connection.is_open and loop.time() < until
                connection.close()
                if not is_stale:
                    raise
            except BaseException:
                connection.close()
                raise

    async def _connection(self) -> _Connection:
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
        try:
            async with asyncio.timeout(self.config.connect_seconds):
                _, made = await asyncio.get_running_loop().create_connection(
                    _Connection, self._host, self._port, ssl=self._tls
                )
                return made
        except TimeoutError:
            problem = f"no connection within {self.config.connect_seconds:g} s"
        except (OSError, ssl.SSLError) as error:
            problem = error.strerror or str(error)
        raise UpstreamUnavailableError(
            f"provider {self.name!r} cannot be reached: {problem}", remedy="check that it runs; ask again"
        )

    def _put_back(self, connection: _Connection) -> None:
        connection.is_busy = False
        is_clean = connection.is_complete and connection.is_kept and connection.is_open
        if is_clean and not connection.take() and not self._is_closed:
            self._idle.append(connection)
        else:
            connection.close()
