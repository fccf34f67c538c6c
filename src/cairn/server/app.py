"""The ASGI application: routes, error shape and what every request passes on the way in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.types import ASGIApp, Lifespan

from cairn import __version__
from cairn.server import (
    adapters,
    anthropic,
    batches,
    catalogue,
    chat,
    completions,
    conversations,
    embeddings,
    files,
    knowledge,
    operations,
    prompts,
    rerank,
    residency,
    responses,
)
from cairn.server.batches.worker import BatchWorker
from cairn.server.errors import ErrorBody, install_error_handlers
from cairn.server.identity import routes as identity
from cairn.server.middleware import BodyLimit, Edge, HostAndOrigin, SecurityHeaders
from cairn.server.page import PAGE_FOLDER, Page
from cairn.server.routing import api as routes
from cairn.server.state import ServerState
from cairn.server.traces import routes as traces
from cairn.server.usage import organization
from cairn.server.usage import routes as usage


def create_api(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """The routes alone: enough for the OpenAPI document, not for answering."""
    api = FastAPI(
        lifespan=lifespan,
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
    for room in (
        chat,
        completions,
        anthropic,
        responses,
        embeddings,
        rerank,
        files,
        batches,
        adapters,
        identity,
        conversations,
        prompts,
        catalogue,
        knowledge,
        residency,
        routes,
        usage,
        traces,
        organization,
        operations,
    ):
        api.include_router(room.router)
    return api


def create_app(state: ServerState, *, page_folder: Path = PAGE_FOLDER) -> ASGIApp:
    """The whole application over a state."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # In the background: the page and the health checks answer while the model loads.
        loading = asyncio.create_task(state.models.warm_up())
        await asyncio.to_thread(state.resume)
        worker = app.state.batches = BatchWorker(state, app)
        working = asyncio.create_task(worker.run())
        yield
        for task in (loading, working):
            task.cancel()
        await asyncio.gather(loading, working, return_exceptions=True)
        await state.models.close()
        await state.metering.close()
        if state.recorder is not None:
            await asyncio.to_thread(state.recorder.close)
        await asyncio.to_thread(state.close)

    api = create_api(lifespan)
    api.state.cairn = state
    api.router.default = Page(page_folder)
    checked = HostAndOrigin(BodyLimit(api, state.config), state.config)
    return Edge(SecurityHeaders(checked), state.metrics, state.in_flight, state.recorder)
