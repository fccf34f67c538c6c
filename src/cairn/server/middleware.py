"""What every request passes before it reaches a route: plain ASGI, no buffering, nothing that breaks streams.

Outermost first: metrics, drain and ids, host and origin, body limits, response headers.
Host names are checked against DNS rebinding (a rebound page can only name its own host), origins
against cross-site requests. Refused bodies are answered before they are read; the rest is then
thrown away for a moment, because a client that is still writing would otherwise see a reset
connection instead of the answer.
"""

import asyncio
import ipaddress
import logging
import re
import socket
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cairn.core.ids import random_hex
from cairn.server.config import ServerConfig
from cairn.server.errors import ErrorResponse, error_response
from cairn.server.metrics import Metrics
from cairn.server.traces.requests import TRACE_HEADER, begin_request, end_request
from cairn.telemetry import NULL, Recorder

logger = logging.getLogger("cairn.server")

_LINGER_SECONDS = 2.0
_LINGER_BYTES = 4_000_000
_HOST = re.compile(r"(?:(?P<name>[\w.-]+)|\[(?P<v6>[0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?", re.ASCII)
"""What may stand in the header: no user, no path, nothing else that some reader takes for another host."""
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_UPLOADS = re.compile(r"/v1/files|/api/attachments|/api/collections/[^/]+/uploads")
"""Where bodies are files, which go to disk as they come."""
_TRACED = ("/v1/", "/api/")
_ALWAYS_OPEN = {"/healthz", "/readyz", "/metrics"}

_SECURITY_HEADERS = [
    (name.encode(), value.encode())
    for name, value in {
        "content-security-policy": (
            "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
            "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
            "object-src 'none'; base-uri 'none'; form-action 'self'; "
            "frame-ancestors 'none'"
        ),
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
    }.items()
]
_PRIVATE_HEADERS = [*_SECURITY_HEADERS, (b"cache-control", b"no-store")]


class InFlight:
    """How many requests are being answered, and whether new ones still are."""

    def __init__(self) -> None:
        self.is_draining = False
        self._num = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num(self) -> int:
        return self._num

    def enter(self) -> None:
        self._num += 1
        self._idle.clear()

    def leave(self) -> None:
        self._num -= 1
        if not self._num:
            self._idle.set()

    async def drain(self, seconds: float) -> bool:
        """Refuse new requests and wait for the running ones; False when time ran out."""
        self.is_draining = True
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return False
        return True


class Edge:
    """Counts, drains, and gives every request an id, which its answer's `x-request-id` says."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, in_flight: InFlight, recorder: Recorder | None = None
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._in_flight = in_flight
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._in_flight.is_draining and scope["path"] not in _ALWAYS_OPEN:
            response = error_response(
                503, "the server is shutting down. try again shortly", code="unavailable"
            )
            response.headers.update({"retry-after": "5", "connection": "close"})
            await response(scope, receive, send)
            return
        status = 499  # the client left before an answer began
        request_id = scope["request_id"] = f"req_{random_hex(24)}"
        root = NULL
        if self._recorder is not None and scope["path"].startswith(_TRACED):
            root = begin_request(self._recorder, scope)

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                if root:
                    headers[TRACE_HEADER] = root.trace_id
            await send(message)

        is_counted = scope["path"] not in _ALWAYS_OPEN
        if is_counted:
            self._in_flight.enter()
        started = time.perf_counter()
        try:
            with root.active():
                await self._app(scope, receive, watch)
        finally:
            if is_counted:
                self._in_flight.leave()
            self._metrics.observe_http(scope, status, time.perf_counter() - started)
            if root and self._recorder is not None:
                end_request(self._recorder, root, scope, status)


class HostAndOrigin:
    """Refuses requests that name a foreign host, and writes that come from a foreign page."""

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self._names = {"localhost", socket.gethostname().lower(), *map(str.lower, config.allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope)):
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) > 1:
            return error_response(400, "a request names one host, this one several", code="host.several")
        host = hosts[0] if hosts else ""
        if not self._is_allowed(host):
            return error_response(
                421,
                f"this server does not answer to the host {host!r}. add a name with --allowed-host",
                code="host.unknown",
            )
        if scope["method"] in _SAFE_METHODS:
            return None
        origin = headers.get("origin")
        if origin is not None:
            is_own = origin == f"{scope['scheme']}://{host}"
        else:
            is_own = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        if is_own:
            return None
        return error_response(
            403, f"requests from {origin or 'another site'} are refused", code="origin.foreign"
        )

    def _is_allowed(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = (found["name"] or found["v6"]).lower()
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class BodyLimit:
    """Bounds a request's body in bytes and in time, that of a file by limits of its own."""

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        config, is_file = self._config, _UPLOADS.fullmatch(scope["path"]) is not None
        max_bytes = config.max_upload_bytes if is_file else config.max_body_bytes
        seconds = config.upload_seconds if is_file else config.body_seconds
        length = Headers(scope=scope).get("content-length", "")
        if length.isdigit() and int(length) > max_bytes:
            await _refuse(_too_large(max_bytes).shaped(scope), receive, send)
            return
        refusal: ErrorResponse | None = None
        has_started = is_whole = False
        num_bytes = 0
        deadline = time.monotonic() + seconds

        async def limited() -> Message:
            nonlocal num_bytes, refusal, is_whole
            if is_whole:
                return await receive()
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                refusal = error_response(408, f"the body did not arrive within {seconds:g} s")
                return {"type": "http.disconnect"}
            num_bytes += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if num_bytes > max_bytes:
                refusal = _too_large(max_bytes)
                return {"type": "http.disconnect"}
            return message

        async def guarded(message: Message) -> None:
            nonlocal has_started
            if refusal is None:
                has_started = True
                await send(message)

        try:
            await self._app(scope, limited, guarded)
        finally:
            if refusal is not None and not has_started:
                await _refuse(refusal.shaped(scope), receive, send)


class SecurityHeaders:
    """Headers that tell a browser to trust nothing but this origin."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                is_private = scope["path"].startswith(("/api/", "/v1/", "/sign-in"))
                given = {name for name, _ in message["headers"]}
                more = _PRIVATE_HEADERS if is_private else _SECURITY_HEADERS
                message["headers"] = [*message["headers"], *(each for each in more if each[0] not in given)]
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


def _too_large(max_bytes: int) -> ErrorResponse:
    return error_response(
        413, f"the body is larger than the {max_bytes} bytes this server takes", code="request.too_large"
    )


async def _refuse(response: Response, receive: Receive, send: Send) -> None:
    """Answer at once, then discard what the client is still sending, for a moment and unstored."""
    response.headers["connection"] = "close"
    await send(
        {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    )
    await send({"type": "http.response.body", "body": response.body, "more_body": True})

    async def discard() -> None:
        message: Message = {"more_body": True}
        num_bytes = 0
        while message.get("more_body") and num_bytes < _LINGER_BYTES:
            message = await receive()
            num_bytes += len(message.get("body", b""))

    try:
        await asyncio.wait_for(discard(), _LINGER_SECONDS)
    except TimeoutError:
        logger.debug("closed on a client that was still sending")
    await send({"type": "http.response.body", "body": b"", "more_body": False})
