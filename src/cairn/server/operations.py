"""For whoever runs the server: is it alive, is it ready, how is it doing; and the API's own description."""

import json
import re
import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from cairn import __version__
from cairn.core import Config
from cairn.core.chat import Principal
from cairn.retrieval.recall import recalls
from cairn.server.auth import PUBLIC, SignedIn, allowed, may_read_metrics
from cairn.server.identity.permissions import Permission
from cairn.server.state import state_of

router = APIRouter(tags=["operations"])

Source = Literal["default", "environment", "command line", "file"]
_FROM_FILES = {"shares", "sign_on"}
"""Settings of the server that come from a file which the command line names."""


class SettingOut(BaseModel):
    """A setting that is in force, and where it comes from."""

    name: str
    value: str
    """As JSON; secrets and passwords are left out."""
    default: str
    source: Source
    description: str


@router.get("/healthz", dependencies=[PUBLIC])
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok", "version": __version__}


@router.get("/readyz", response_class=JSONResponse, dependencies=[PUBLIC])
def readyz(request: Request) -> JSONResponse:
    """A completion would be taken now; 503 while a model loads or the server drains."""
    state = state_of(request)
    problem = "shutting down" if state.in_flight.is_draining else state.models.problem()
    if problem:
        return JSONResponse({"status": "not ready", "reason": problem}, 503, {"retry-after": "1"})
    # Anybody may ask this: what is wrong with the file is for administrators, in /api/routes.
    warning = {"warning": "the routes' file is not in force: cairn doctor"} if state.routes.problem else {}
    return JSONResponse({"status": "ready", **warning})


@router.get("/metrics", response_class=Response)
def metrics(request: Request, _allowed: Annotated[None, Depends(may_read_metrics)]) -> Response:
    """Prometheus metrics."""
    state = state_of(request)
    state.metrics.in_flight.set(state.in_flight.num)
    memory = state.models.memory()
    state.metrics.memory_budget.set(memory.budget)
    state.metrics.memory_held.set(memory.held)
    state.metrics.model_loads.labels("ok").set(memory.num_loads)
    state.metrics.model_loads.labels("failed").set(memory.num_failures)
    for reason, num in memory.departures.items():
        state.metrics.model_departures.labels(reason).set(num)
    for provider in state.models.loaded():
        load, name = provider.load(), provider.name
        state.metrics.running.labels(name).set(load.running)
        state.metrics.waiting.labels(name).set(load.waiting)
        for tenant in load.tenants:
            state.metrics.tenant_running.labels(name, tenant.tenant).set(tenant.running)
            state.metrics.tenant_waiting.labels(name, tenant.tenant).set(tenant.waiting)
            state.metrics.tenant_tokens.labels(name, tenant.tenant).set(tenant.tokens)
        state.metrics.kv_blocks_used.labels(name).set(load.blocks_used)
        state.metrics.kv_blocks_total.labels(name).set(load.blocks_total)
        for drafter, num in load.tokens_guessed.items():
            state.metrics.tokens_guessed.labels(name, drafter).set(num)
        for drafter, num in load.tokens_guessed_right.items():
            state.metrics.tokens_guessed_right.labels(name, drafter).set(num)
    state.routes.observe(time.monotonic())
    if state.recorder is not None:
        for fate, num in state.recorder.fates().items():
            state.metrics.traces.labels(fate).set(num)
    state.metrics.recalls.observe(recalls(state.registry.database).values())
    return Response(state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/api/settings")
def settings(
    request: Request, _caller: Annotated[Principal, allowed(Permission.MANAGE_SERVER)]
) -> list[SettingOut]:
    """What is in force, and whether the environment, the command line or a file says so."""
    state = state_of(request)
    return [*_settings(state.registry.settings, "environment"), *_settings(state.config, "command line")]


def _settings(config: Config, given: Source) -> Iterator[SettingOut]:
    values = config.model_dump(mode="json")
    for name, info in type(config).model_fields.items():
        default = type(config).model_construct().model_dump(mode="json", warnings=False)[name]
        is_given = name in config.model_fields_set and getattr(config, name) != info.get_default()
        yield SettingOut(
            name=f"CAIRN_{name.upper()}" if given == "environment" else name,
            value=_shown(values[name]),
            default=_shown(default),
            source=("file" if name in _FROM_FILES else given) if is_given else "default",
            description=info.description or "",
        )


def _shown(value: Any) -> str:
    """Without the secrets that it may hold: those of an identity provider, and passwords in addresses."""
    if isinstance(value, dict) and value.get("client_secret"):
        value = value | {"client_secret": "***"}
    return re.sub(r"(://[^/@\s:]*:)[^@\s]+@", r"\1***@", json.dumps(value, ensure_ascii=False))


@router.get("/api/openapi.json", include_in_schema=False)
def openapi(request: Request, _caller: SignedIn) -> dict[str, Any]:
    """The OpenAPI document."""
    document: dict[str, Any] = request.app.openapi()
    return document
