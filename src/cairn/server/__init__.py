"""server: HTTP. The OpenAI-shaped API, sign-in, the page and the API behind it.

`create_app(state)` makes the ASGI application, `serve(...)` runs it. Every answer comes from
a `ChatProvider`; this room only translates, authenticates, limits and stores conversations.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cairn.server.app import create_app
    from cairn.server.config import ServerConfig
    from cairn.server.state import ServerState

__all__ = ["ServerConfig", "ServerState", "create_app"]


def __getattr__(name: str) -> Any:
    """The public names, imported when asked for: the command line reads the config without FastAPI."""
    homes = {"create_app": "app", "ServerConfig": "config", "ServerState": "state"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{homes[name]}"), name)
