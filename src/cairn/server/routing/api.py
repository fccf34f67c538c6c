"""`/api/routes`: the routes in force and how their targets are doing; changing a canary or the whole file."""

import asyncio
import time
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from cairn.core.digests import digest_bytes
from cairn.core.errors import ConflictError, NotFoundError
from cairn.core.file_writing import replace_file
from cairn.server.auth import Administrator, MayManageRoutes
from cairn.server.body import RequestBody
from cairn.server.routing.breaker import BreakerState
from cairn.server.routing.config import FILE_NAME, RoutesError, TargetConfig, read_routes, read_text
from cairn.server.routing.lines import with_percent
from cairn.server.routing.table import RouteTable
from cairn.server.state import ServerState, state_of

router = APIRouter(prefix="/api/routes", tags=["routes"])

Role = Literal["target", "canary", "shadow"]
Entry = tuple[str, str, str, dict[str, Any]]
"""Of the audit log: action, actor, subject, details."""


class TargetInfo(BaseModel):
    """A target of a route, and how it is doing; the same wherever it is named."""

    name: str
    provider: str
    """Empty: this server."""
    model: str
    role: Role
    weight: float
    state: BreakerState
    """Of its circuit breaker: `closed` is well."""
    wait_seconds: float
    """Until it is asked again; 0: now."""
    outstanding: int
    num_requests: int
    """Since the server's start."""
    num_failures: int
    error_rate: float | None
    """Of the last 200; null: none yet."""
    p50_seconds: float | None
    """To the first of an answer."""
    p99_seconds: float | None
    last_error: str
    last_error_at: float | None


class RouteInfo(BaseModel):
    """A route in force."""

    name: str
    strategy: Literal["ordered", "weighted", "least_outstanding"]
    affinity: bool
    cascade: Literal["score", "logprob"] | None
    canary_percent: float | None
    """Null: it has none."""
    shadow_percent: float | None
    targets: list[TargetInfo]


class ProblemInfo(BaseModel):
    """A mistake in the file."""

    line: int
    message: str


class RoutesInfo(BaseModel):
    """The routes' file, and what is in force."""

    path: str
    text: str
    """What the file says now; in force only without problems."""
    digest: str
    """Of the text; sent back with a change, so that nobody's is lost."""
    problems: list[ProblemInfo]
    routes: list[RouteInfo]


class RoutesBody(RequestBody):
    """A new text for the file."""

    text: str
    digest: str | None = None
    """Of the text it was made from; null: whatever is there."""


class CanaryBody(RequestBody):
    """A share of users."""

    percent: Annotated[float, Field(ge=0, le=100)]


@router.get("")
async def get_routes(request: Request, _caller: MayManageRoutes) -> RoutesInfo:
    """The file, its mistakes, and every route with the health of its targets."""
    return await _info(state_of(request).routes)


@router.put("")
async def put_routes(request: Request, administrator: Administrator, body: RoutesBody) -> RoutesInfo:
    """Write the file; a text with mistakes is refused with their lines and changes nothing.

    For administrators alone: the file says to which addresses keys of this server are sent.
    """
    state = state_of(request)
    async with state.routes.writing:
        await _write(state, body.text, body.digest, ("route.write", administrator.user_id, FILE_NAME, {}))
    return await _info(state.routes)


@router.put("/{name:path}/canary")
async def put_canary(request: Request, caller: MayManageRoutes, name: str, body: CanaryBody) -> RoutesInfo:
    """Set the share of a route's canary; the rest of the file stays as it is, comments too."""
    state = state_of(request)
    async with state.routes.writing:
        await _set_share(state, name, body.percent, caller.user_id)
    return await _info(state.routes)


async def _set_share(state: ServerState, name: str, percent: float, actor: str) -> None:
    table = state.routes
    text = await asyncio.to_thread(read_text, table.path)
    route = read_routes(text, source=str(table.path)).routes.get(name)
    if route is None or route.canary is None:
        raise NotFoundError(f"there is no canary of {name!r}", remedy="add [routes.NAME.canary] to the file")
    changed = with_percent(text, ("routes", name, "canary", "percent"), percent)
    found = read_routes(changed).routes.get(name) if changed is not None else None
    if changed is None or found is None or found.canary is None or found.canary.percent != percent:
        raise ConflictError("the share stands where it cannot be changed by itself", remedy="edit the text")
    told = {"before": route.canary.percent, "percent": percent}
    await _write(state, changed, digest_bytes(text.encode()), ("route.canary", actor, name, told))


async def _write(state: ServerState, text: str, digest: str | None, entry: Entry) -> None:
    table, audit = state.routes, state.registry.audit
    read_routes(text, source=str(table.path))
    action, actor, subject, details = entry

    def write() -> None:
        before = digest_bytes(read_text(table.path).encode())
        if digest is not None and digest != before:
            raise ConflictError(
                f"{table.path} was changed meanwhile", remedy="load it again and make your change there"
            )
        told = {**details, "file_before": before, "file": digest_bytes(text.encode())}
        # A change that cannot be noted is none: the file is replaced before the entry is kept.
        with state.registry.database.writing() as session:
            audit.append_in(session, action, actor, subject, told)
            replace_file(table.path, [text.encode()])

    await asyncio.to_thread(write)
    table.refresh()


async def _info(table: RouteTable) -> RoutesInfo:
    text = await asyncio.to_thread(read_text, table.path)
    problems: list[ProblemInfo] = []
    try:
        read_routes(text)
    except RoutesError as error:
        problems = [ProblemInfo(line=each.line, message=each.message) for each in error.problems]
    return RoutesInfo(
        path=str(table.path),
        text=text,
        digest=digest_bytes(text.encode()),
        problems=problems,
        routes=[_route(table, name) for name in table.config.routes],
    )


def _route(table: RouteTable, name: str) -> RouteInfo:
    route = table.config.routes[name]
    targets = [_target(table, target, "target") for target in route.targets]
    if route.canary is not None:
        targets.append(_target(table, route.canary.target, "canary"))
    if route.shadow is not None:
        targets.append(_target(table, route.shadow.target, "shadow"))
    return RouteInfo(
        name=name,
        strategy=route.strategy,
        affinity=route.affinity,
        cascade=route.cascade.by if route.cascade is not None else None,
        canary_percent=route.canary.percent if route.canary is not None else None,
        shadow_percent=route.shadow.percent if route.shadow is not None else None,
        targets=targets,
    )


def _target(table: RouteTable, target: TargetConfig, role: Role) -> TargetInfo:
    health = table.target(target.name).health(time.monotonic())
    return TargetInfo(
        name=target.name,
        provider=target.provider,
        model=target.model,
        role=role,
        weight=target.weight,
        **asdict(health),
    )
