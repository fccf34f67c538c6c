"""Running the server: the listening socket, the lifespan of the models, and a drain before the end.

At SIGTERM new requests get 503 with Retry-After while running ones finish, up to `drain_seconds`; then the
socket closes and what is left is cut off. A second SIGINT ends at once.
"""

import asyncio
import contextlib
import errno
import logging
import socket

import uvicorn

from cairn.core.errors import CairnError, ConflictError
from cairn.server.app import create_app
from cairn.server.config import ServerConfig
from cairn.server.state import ServerState

logger = logging.getLogger("cairn.server")

_POLL_SECONDS = 0.1
_CLOSE_SECONDS = 2


class CairnServer(uvicorn.Server):
    """Uvicorn that drains: it goes on listening, to say no, while running requests finish."""

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config)
        self._state = state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then close."""
        drain = asyncio.create_task(self._state.in_flight.drain(self._state.config.drain_seconds))
        while not drain.done() and not self.force_exit:
            await asyncio.wait({drain}, timeout=_POLL_SECONDS)
        drain.cancel()
        await super().shutdown(sockets)


def listen(host: str, port: int, *, write_seconds: float) -> socket.socket:
    """A listening socket; `ConflictError` naming a free port when this one is taken."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise CairnError(f"{host!r} is no address of this machine: {error.strerror}") from None
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
                remedy=f"is Cairn running already? stop what uses it, or: cairn up --port {_free_port(host)}",
            ) from None
        raise CairnError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    sock.set_inheritable(True)
    return sock


def make_server(state: ServerState) -> CairnServer:
    """A server over a state; its models load in the background once it listens."""
    config: ServerConfig = state.config
    return CairnServer(
        uvicorn.Config(
            create_app(state),
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
        state,
    )


def _free_port(host: str) -> int:
    with contextlib.closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        return port
