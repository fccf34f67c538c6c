"""Running the server: the listening socket, the lifespan of the models, and a drain before the end.

At SIGTERM new requests get 503 with Retry-After while running ones finish, up to `drain_seconds`; then the
socket closes and what is left is cut off. A second SIGINT ends at once.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cairn.core.errors import ConfigError, ConflictError
from cairn.server.app import create_app
from cairn.server.config import ServerConfig
from cairn.server.state import ServerState

if TYPE_CHECKING:
    from cairn.server.grpc.listening import Listening

_POLL_SECONDS = 0.1
_MOST_HEAD_BYTES = 64_000
_CLOSE_SECONDS = 2
_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 42\r\nconnection: close\r\n\r\nThe request's headers are over 64 KB long."
)


class Connection(HttpToolsProtocol):
    """Uvicorn's, with bounds that it has none of: on the bytes and the time of what comes before a body."""

    _num_head_bytes = 0
    _is_in_head = True
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, *, head_seconds: float, **values: Any) -> None:
        super().__init__(**values)
        self._head_seconds = head_seconds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect the first request."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(self._head_seconds, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; most heads come whole, and only what does not is watched."""
        super().data_received(data)
        if not self._is_in_head or self.transport.is_closing():
            return
        self._num_head_bytes += len(data)
        if self._num_head_bytes > _MOST_HEAD_BYTES:
            self.transport.write(_TOO_LONG)
            self.transport.close()
        elif self._timer is None:
            self._timer = self.loop.call_later(self._head_seconds, self.transport.close)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._is_in_head, self._num_head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._is_in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class CairnServer(uvicorn.Server):
    """Uvicorn that drains: it goes on listening, to say no, while running requests finish."""

    def __init__(
        self, config: uvicorn.Config, app: ASGIApp, state: ServerState, on_started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._app = app
        self._state = state
        self._on_started = on_started
        self._grpc: Listening | None = None
        self.grpc_port = 0
        """Where gRPC listens; 0: nowhere."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self._state.config.grpc_port is not None:
            from cairn.server.grpc.listening import Listening  # noqa: PLC0415 - an extra, for who asks for it

            self._grpc = Listening(self._app, self._state)
            self.grpc_port = await self._grpc.start()
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then close."""
        drain = asyncio.create_task(self._state.in_flight.drain(self._state.config.drain_seconds))
        while not drain.done() and not self.force_exit:
            await asyncio.wait({drain}, timeout=_POLL_SECONDS)
        drain.cancel()
        if self._grpc is not None:
            await self._grpc.stop(_CLOSE_SECONDS)
        await super().shutdown(sockets)
        # Uvicorn would raise the signal again; being told to end and ending is no failure.
        self._captured_signals.clear()


def listen(host: str, port: int, *, write_seconds: float, option: str = "--port") -> socket.socket:
    """A listening socket; `ConflictError` naming a free port when this one is taken."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise ConfigError(
            f"{host!r} is no address of this machine: {error.strerror}",
            remedy="127.0.0.1 is for this machine alone, 0.0.0.0 for every network it is on",
        ) from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Inherited by connections: the kernel drops a peer that acknowledges nothing, or whose window
        # stays shut, for this long; closing the transport alone would wait for its buffer for ever.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(write_seconds * 1000))
    try:
        sock.bind(address)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                f"port {port} on {host} is in use",
                remedy=f"stop what uses it (Cairn already?), or: cairn up {option} {_free_port(host, port)}",
            ) from None
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            remedy=f"choose an address of this machine and a port above 1023: cairn up {option} 8642",
        ) from None
    sock.set_inheritable(True)
    return sock


def make_server(state: ServerState, *, on_started: Callable[[], None] = lambda: None) -> CairnServer:
    """A server over a state; its models load in the background once it listens."""
    config: ServerConfig = state.config
    app = create_app(state)
    return CairnServer(
        uvicorn.Config(
            app,
            # The type of what it calls to make one; a class alone could not be told the time.
            http=partial(Connection, head_seconds=config.body_seconds),  # type: ignore[arg-type]
            lifespan="on",
            log_config=None,
            ssl_certfile=config.tls_certificate,
            ssl_keyfile=config.tls_key,
            access_log=False,
            server_header=False,
            proxy_headers=config.trust_proxy,
            timeout_graceful_shutdown=_CLOSE_SECONDS,
            timeout_keep_alive=30,
            ws="none",
        ),
        app,
        state,
        on_started,
    )


def _free_port(host: str, port: int) -> int:
    """The next port above that nobody uses."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in (*range(port + 1, min(port + 50, 65536)), 0):
        with contextlib.closing(socket.socket(family)) as sock, contextlib.suppress(OSError):
            sock.bind((host, candidate))
            return int(sock.getsockname()[1])
    return 0
