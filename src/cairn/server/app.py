"""The ASGI application: routes, error shape and what every request passes on the way in."""

from pathlib import Path

from fastapi import FastAPI
from starlette.types import ASGIApp

from cairn import __version__
from cairn.server import auth, catalogue, chat, completions, conversations, operations, page
from cairn.server.errors import ErrorBody, install_error_handlers
from cairn.server.middleware import BodyLimit, Edge, HostAndOrigin, SecurityHeaders
from cairn.server.state import ServerState

_PAGE_FOLDER = Path(__file__).parent / "page"


def create_api() -> FastAPI:
    """The routes alone: enough for the OpenAPI document, not for answering."""
    api = FastAPI(
        title="Cairn",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}},
        generate_unique_id_function=lambda route: route.name,
    )
    install_error_handlers(api)
    for room in (chat, completions, auth, conversations, catalogue, operations, page):
        api.include_router(room.router)
    return api


def create_app(state: ServerState, *, page_folder: Path = _PAGE_FOLDER) -> ASGIApp:
    """The whole application over a state."""
    api = create_api()
    api.state.cairn = state
    api.state.page_folder = page_folder
    checked = HostAndOrigin(BodyLimit(api, state.config), state.config)
    return Edge(SecurityHeaders(checked), state.metrics, state.in_flight)
