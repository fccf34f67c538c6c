"""The gRPC server beside HTTP's, in its event loop: port, TLS, health and reflection."""

import asyncio
import contextlib

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from starlette.types import ASGIApp

from cairn.core.errors import ConfigError, ConflictError
from cairn.server.grpc.services import SignedInOnly, add_services
from cairn.server.state import ServerState

_LOOK_SECONDS = 0.5
_Status = health_pb2.HealthCheckResponse


class Listening:
    """A server that listens; its health is what `/readyz` says."""

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self._state = state
        self._server = grpc.aio.server(
            interceptors=(SignedInOnly(app),),
            options=(
                ("grpc.so_reuseport", 0),  # or a second server would take half of the first one's calls
                ("grpc.max_receive_message_length", state.config.max_body_bytes),
                ("grpc.max_send_message_length", -1),
            ),
        )
        names = add_services(app, self._server)
        self._names = ("", *names)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )
        self._told: int | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen; the port."""
        config = self._state.config
        host = f"[{config.host}]" if ":" in config.host else config.host
        address = f"{host}:{config.grpc_port}"
        try:
            port = self._bind(address)
        except RuntimeError:
            raise ConflictError(
                f"gRPC cannot listen on {address}",
                remedy="stop what uses the port, or choose another: cairn up --grpc PORT",
            ) from None
        await self._tell()
        await self._server.start()
        self._watching = asyncio.create_task(self._watch())
        return port

    async def stop(self, grace: float) -> None:
        """Say that no more is served, give running calls so many seconds, and end."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)

    def _bind(self, address: str) -> int:
        config = self._state.config
        if config.tls_certificate is None or config.tls_key is None:
            return int(self._server.add_insecure_port(address))
        try:
            pair = (config.tls_key.read_bytes(), config.tls_certificate.read_bytes())
        except OSError as error:
            raise ConfigError(
                f"cannot read {error.filename}: {error.strerror}", remedy="name readable PEM files"
            ) from None
        return int(self._server.add_secure_port(address, grpc.ssl_server_credentials((pair,))))

    async def _watch(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                await self._tell()

    async def _tell(self) -> None:
        state = self._state
        is_ready = not (state.in_flight.is_draining or state.models.problem())
        status = _Status.SERVING if is_ready else _Status.NOT_SERVING
        if status != self._told:
            self._told = status
            for name in self._names:
                await self._health.set(name, status)
