"""From a command to a running server: the socket, the home, the keys, and the lines a person needs."""

import gc
import importlib.util
import ipaddress
import socket
import sys
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from cairn.core.digests import short
from cairn.core.errors import ConfigError, MissingExtraError
from cairn.core.progress import console_progress
from cairn.providers.starter import STARTER_NAME, adopt_heads, adopt_starter
from cairn.registry import Registry
from cairn.server.config import ServerConfig
from cairn.server.identity import ADMIN, Identity
from cairn.server.models import NO_MODEL_REMEDY, ModelPool
from cairn.server.running import published
from cairn.server.serving import listen, make_server
from cairn.server.state import ServerState

Say = Callable[[str, str], None]


def serve(
    config: ServerConfig,
    *,
    models: Sequence[str],
    new_key: bool,
    plain_http: bool,
    open_page: bool,
    say: Say,
) -> None:
    """Serve until told to end. `say` gets a label and a text for each line a person should read."""
    check_exposure(config, plain_http=plain_http)
    # Before anything else: a port that is taken should be known at once.
    sock = listen(config.host, config.port, write_seconds=config.write_seconds)
    check_grpc(config)
    with sock, Registry.open() as registry, ExitStack() as running:
        adopt_starter(registry)
        adopt_heads(registry)
        identity = Identity(registry.database)
        key = identity.ensure_admin() or (identity.create_key(ADMIN) if new_key else None)
        pool = ModelPool(registry, config, names=models, progress=console_progress())
        lines = _lines(registry, pool)  # also the moment at which an unknown name is refused
        state = ServerState(registry=registry, config=config, models=pool, identity=identity)

        def announce() -> None:
            address = address_of(config, sock.getsockname()[1])
            running.enter_context(published(registry.settings.home, address))
            token = identity.create_sign_in_token(ADMIN, seconds=config.sign_in_link_seconds)
            link = f"{address}/sign-in?token={token}"
            say("Page", f"{link}  (works once, for {config.sign_in_link_seconds / 60:.0f} minutes)")
            if key is not None:
                say("Key", f"{key}  (admin; shown this once)")
            for label, text in lines:
                say(label, text)
            if server.grpc_port:
                say("gRPC", f"{_host_of(config)}:{server.grpc_port}  (with reflection)")
            say("Next", f"cairn chat, or point an OpenAI client at {address}/v1")
            keep_pauses_short()
            if open_page:
                webbrowser.open(link)

        server = make_server(state, on_started=announce)
        server.run(sockets=[sock])


def keep_pauses_short() -> None:
    """Set the interpreter so that what goes on beside a request holds it up for little.

    What the start made stays, and looking for garbage in it took 50 ms of every 500 requests. The objects of
    a hundred requests under way are no garbage either. A thread that writes to the database gives way to the
    event loop after one millisecond instead of five.
    """
    gc.freeze()
    gc.enable()
    gc.set_threshold(25_000, 10, 10)
    sys.setswitchinterval(0.001)


def check_exposure(config: ServerConfig, *, plain_http: bool) -> None:
    """Keys and conversations do not cross a network unencrypted by accident."""
    has_tls = config.tls_certificate is not None
    if has_tls != (config.tls_key is not None):
        raise ConfigError(
            "TLS needs both a certificate and its key", remedy="give --tls-certificate and --tls-key"
        )
    if not (has_tls or plain_http or _is_loopback(config.host)):
        raise ConfigError(
            f"--host {config.host} would let other machines in without encryption",
            remedy="give --tls-certificate and --tls-key; or --plain-http when a proxy or a private network "
            "takes care of it",
        )


def check_grpc(config: ServerConfig) -> None:
    """Whether gRPC can be served, where it is asked for: its packages are there and its port is free."""
    if config.grpc_port is None:
        return
    if any(importlib.util.find_spec(name) is None for name in ("grpc", "grpc_health", "grpc_reflection")):
        raise MissingExtraError("gRPC", "grpc")
    listen(config.host, config.grpc_port, write_seconds=config.write_seconds, option="--grpc").close()


def address_of(config: ServerConfig, port: int) -> str:
    """The URL to open in a browser."""
    scheme = "https" if config.tls_certificate else "http"
    return f"{scheme}://{_host_of(config)}:{port}"


def _host_of(config: ServerConfig) -> str:
    host = socket.gethostname() if config.host in ("0.0.0.0", "::", "") else config.host
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _lines(registry: Registry, pool: ModelPool) -> list[tuple[str, str]]:
    served = pool.served()
    text = f"none yet; {NO_MODEL_REMEDY}"
    if served:
        text = f"{served[0].name} ({short(served[0].digest)})"
        if served[0].name == STARTER_NAME:
            text += ", small and made to try things with"
    return [("Model", text), ("Data", str(registry.settings.home))]
